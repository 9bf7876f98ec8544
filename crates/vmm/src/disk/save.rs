//! A disk in a snapshot: the blocks that are not the base's, together in one file, and where each belongs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use super::index::Place;
use super::{BLOCK, BLOCK_BYTES, Disk, DiskError};
use crate::virtio::Scatter;

/// Blocks copied at a time.
const COPY_BLOCKS: u32 = 256;

/// All of a disk but its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    size_bytes: u64,
    /// Size of the base the disk was over.
    base_bytes: u64,
    /// Blocks in the file.
    stored: u32,
    /// In order, without overlap.
    runs: Vec<Run>,
}

/// Blocks that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    block: u32,
    count: u32,
    /// Number of the first one's place in the file; none when all are zeros.
    stored: Option<u32>,
}

impl Disk {
    /// Copies every block that is not the base's to `layer`, an empty file.
    ///
    /// # Errors
    /// A layer cannot be read, or `layer` not be written.
    pub fn save(&self, layer: &File) -> Result<DiskState, DiskError> {
        let mut state = DiskState {
            size_bytes: self.size_bytes,
            base_bytes: self.base_bytes()?,
            stored: 0,
            runs: Vec::new(),
        };
        for (block, place) in self.index.iter() {
            state.append(block, place);
        }
        let mut buffer = vec![0; COPY_BLOCKS as usize * BLOCK];
        for run in &state.runs {
            let Some(stored) = run.stored else { continue };
            for done in (0..run.count).step_by(COPY_BLOCKS as usize) {
                let len = (run.count - done).min(COPY_BLOCKS) as usize * BLOCK;
                let part = buffer.get_mut(..len).unwrap_or_default();
                let at = u64::from(run.block + done) * BLOCK_BYTES;
                self.read(at, &Scatter::from(&mut *part))?;
                layer
                    .write_all_at(part, u64::from(stored + done) * BLOCK_BYTES)
                    .map_err(DiskError::WriteLayer)?;
            }
        }
        Ok(state)
    }

    /// By fstat(2), which a confined process may use.
    fn base_bytes(&self) -> Result<u64, DiskError> {
        let base = rustix::fs::fstat(&self.base).map_err(io::Error::from);
        let base = base.map_err(DiskError::ReadBase)?;
        Ok(u64::try_from(base.st_size).unwrap_or(0))
    }

    /// The disk that was saved, over the same base and the file it was copied to, which is only read. `layer` is an
    /// empty file for what is written from now on.
    ///
    /// # Errors
    /// The state does not fit the files, or is not one a disk can have.
    pub fn restore(base: File, saved: File, state: &DiskState, layer: File) -> Result<Self, DiskError> {
        let base_bytes = base.metadata().map_err(DiskError::ReadBase)?.len();
        let saved_bytes = saved.metadata().map_err(DiskError::ReadLayer)?.len();
        if base_bytes != state.base_bytes {
            return Err(DiskError::NotThisBase);
        }
        if saved_bytes != u64::from(state.stored) * BLOCK_BYTES {
            return Err(DiskError::ReadLayer(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut disk = Self::new(base, saved, state.size_bytes)?;
        let (blocks, mut next) = (state.size_bytes / BLOCK_BYTES, 0);
        disk.layers.fill(state.stored);
        for run in &state.runs {
            let end = u64::from(run.block) + u64::from(run.count);
            let stored_end = u64::from(run.stored.unwrap_or(0)) + u64::from(run.count);
            let fits = run.stored.is_none() || stored_end <= u64::from(state.stored);
            if u64::from(run.block) < next || end > blocks || !fits {
                return Err(DiskError::Index);
            }
            for n in 0..run.count {
                let place = run
                    .stored
                    .map_or(Place::Zeros, |stored| Place::Stored(stored + n));
                disk.set_place(run.block + n, place);
            }
            next = end;
        }
        disk.seal(layer);
        Ok(disk)
    }
}

impl DiskState {
    /// What the guest sees.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Adds a block that follows all before it.
    fn append(&mut self, block: u32, place: Place) {
        let stored = match place {
            Place::Base => return,
            Place::Zeros => None,
            Place::Stored(_) => {
                self.stored += 1;
                Some(self.stored - 1)
            }
        };
        match self.runs.last_mut() {
            Some(run) if run.block + run.count == block && run.stored.is_some() == stored.is_some() => {
                run.count += 1;
            }
            _ => self.runs.push(Run {
                block,
                count: 1,
                stored,
            }),
        }
    }
}

//! A space that is being written. Nothing of it counts until it is committed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pod_types::SpaceId;
use vmm_proto::{FROZEN_DISK, FROZEN_MEMORY, FROZEN_STATE};

use super::base_sums;
use super::meta::digest;
use super::templates::MEMORY;
use super::{Entry, Meta, NEW, Spaces, rename, sync_dir, with_end};
use crate::storage::make_private;

pub(super) const META: &str = "meta";
pub(super) const REPLAY: &str = "replay";
pub(super) const VM: &str = "vm";
/// Where a template's memory is that came with the space.
pub(super) const BASE: &str = "base";

/// Dropping it removes what was written.
#[derive(Debug)]
pub(crate) struct Draft {
    spaces: Arc<Spaces>,
    pub(crate) id: SpaceId,
    dir: PathBuf,
    files: FrozenFiles,
    base: Option<File>,
    committed: bool,
}

/// What the VM process writes to.
#[derive(Debug)]
pub(crate) struct FrozenFiles {
    pub(crate) memory: File,
    pub(crate) disk: File,
    pub(crate) state: File,
}

impl Draft {
    /// Makes the files.
    pub(crate) fn begin(spaces: &Arc<Spaces>, id: SpaceId) -> io::Result<Self> {
        let dir = with_end(&spaces.path(id), NEW);
        make_private(&dir.join(VM))?;
        let made = FrozenFiles::make(&dir.join(VM));
        if made.is_err() {
            drop(fs::remove_dir_all(&dir));
        }
        Ok(Self {
            spaces: Arc::clone(spaces),
            id,
            files: made?,
            base: None,
            dir,
            committed: false,
        })
    }

    pub(crate) fn files(&self) -> &FrozenFiles {
        &self.files
    }

    /// Where the VM's files are until it counts.
    pub(crate) fn vm(&self) -> PathBuf {
        self.dir.join(VM)
    }

    /// Where a memory is that its own lies over, if that is here.
    pub(crate) fn base_dir(&self) -> Option<PathBuf> {
        self.base.is_some().then(|| self.dir.join(BASE))
    }

    /// Makes a file for the memory that its own lies over.
    pub(super) fn begin_base(&mut self) -> io::Result<&File> {
        let dir = self.dir.join(BASE);
        make_private(&dir)?;
        Ok(self.base.insert(File::create_new(dir.join(MEMORY))?))
    }

    pub(super) fn base(&self) -> Option<&File> {
        self.base.as_ref()
    }

    /// Empties the files for another try.
    pub(crate) fn again(&self) -> io::Result<()> {
        self.files.all().iter().try_for_each(|file| file.set_len(0))
    }

    /// Makes it count, whole or not at all: when this returns, all of it is on stable storage.
    pub(crate) fn commit(mut self, mut meta: Meta, replay: &[u8]) -> io::Result<Arc<Meta>> {
        meta.replay = digest(replay);
        meta.replay_bytes = replay.len() as u64;
        self.files.check(&meta)?;
        write(&self.dir.join(REPLAY), replay)?;
        write(&self.dir.join(META), &meta.encode()?)?;
        self.files.all().iter().try_for_each(|file| file.sync_all())?;
        if let Some(base) = &self.base {
            base.sync_all()?;
            base_sums::sum_in(&self.dir.join(BASE))?;
            sync_dir(&self.dir.join(BASE))?;
        }
        sync_dir(&self.dir.join(VM))?;
        sync_dir(&self.dir)?;
        rename(&self.dir, &self.spaces.path(self.id))?;
        self.committed = true;
        let meta = Arc::new(meta);
        let entry = Entry {
            meta: Arc::clone(&meta),
            busy: false,
        };
        self.spaces.entries().insert(self.id, entry);
        Ok(meta)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%error, dir = %self.dir.display(), "cannot remove an unfinished space");
        }
    }
}

impl FrozenFiles {
    fn make(dir: &Path) -> io::Result<Self> {
        let make = |name: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(dir.join(name))
        };
        Ok(Self {
            memory: make(FROZEN_MEMORY)?,
            disk: make(FROZEN_DISK)?,
            state: make(FROZEN_STATE)?,
        })
    }

    fn all(&self) -> [&File; 3] {
        [&self.memory, &self.disk, &self.state]
    }

    /// Whether what was written has the lengths that were told: a VM process may be in the hands of its guest, and what
    /// it takes of the disk is counted.
    fn check(&self, meta: &Meta) -> io::Result<()> {
        let told = [meta.memory_bytes, meta.disk_bytes, meta.state_bytes];
        for (file, told) in self.all().into_iter().zip(told) {
            let found = file.metadata()?.len();
            if found != told {
                let text = format!("the VM process told of {told} bytes and wrote {found}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    File::open(path)?.sync_all()
}

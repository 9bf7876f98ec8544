//! A VM in files that outlive it, as little of it as has to be there.
//!
//! ```text
//!   memory   pages that differ from what the VM was made of (see `delta`)
//!   disk     blocks that are not the base image's
//!   state    the rest, and length and checksums of the other two: checked whole before anything of it is believed
//! ```
//!
//! What it was made of is the memory of its template's snapshot, named by its id, or nothing at all for a VM that was
//! booted. Unlike a [snapshot](crate::snapshot), which can be made again, this is all there is of somebody's work: it is
//! not tied to a build of this program or to a version of the host's kernel, but to the format's version and to what the
//! guest has seen of its CPU. Whatever does not fit is refused with the reason, and nothing is changed.

mod delta;
mod runs;
mod sums;
mod view;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm_proto::{FROZEN_DISK, FROZEN_MEMORY, FROZEN_STATE, FreezeConfig, FreezeReport, VmSize};

use crate::machine::MachineError;
use crate::memory::{self, GuestMemory, MemoryError};
use crate::snapshot::{self, Document, FormatError, SnapshotError, SnapshotId, Stored};
use crate::virtio::DeviceError;

pub(crate) use delta::{Delta, DeltaError};
pub(crate) use runs::Run;
pub(crate) use sums::{SumError, Sums};

/// Why a VM was not frozen. It is as it was.
#[derive(Debug, Error)]
pub(crate) enum FreezeError {
    #[error("{came} descriptors came instead of {needed}")]
    Descriptors { came: usize, needed: usize },
    #[error("cannot capture the VM")]
    Capture(#[source] MachineError),
    #[error("cannot write the VM's memory")]
    Memory(#[source] DeltaError),
    #[error("cannot write the VM's disk")]
    Disk(#[source] DeviceError),
    #[error("cannot read what was written of the VM's disk")]
    DiskSums(#[source] SumError),
    #[error("cannot lay out the VM's state")]
    Format(#[source] FormatError),
    #[error("cannot name what is written")]
    Id(#[source] io::Error),
    #[error("cannot write the VM's state")]
    State(#[source] io::Error),
}

/// Why files are not a VM that can go on here.
#[derive(Debug, Error)]
pub enum ThawError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("its state is not whole")]
    Format(#[source] FormatError),
    #[error("its {file} file is damaged")]
    Damaged {
        file: &'static str,
        #[source]
        source: SumError,
    },
    #[error("its contents do not go together: {what}")]
    Inconsistent { what: &'static str },
    #[error("it is not of the size that it counts for")]
    Larger,
    #[error("the template's memory, over which it lies, is of no use")]
    Base(#[source] SnapshotError),
    #[error("its memory cannot be put together")]
    Memory(#[source] DeltaError),
    #[error("there is no memory for it")]
    Allocate(#[source] MemoryError),
}

/// Where a VM is frozen to.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) memory: File,
    pub(crate) disk: File,
    pub(crate) state: File,
    pub(crate) pagemap: Option<File>,
    /// Nothing is left out for being what the VM was made of.
    pub(crate) whole: bool,
}

/// The state file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Frozen {
    pub(crate) document: Document,
    /// The snapshot whose memory lies under that which has changed.
    base: Option<SnapshotId>,
    runs: Vec<Run>,
    memory: Sums,
    disk: Sums,
}

/// A frozen VM, read and checked.
#[derive(Debug)]
pub(crate) struct Thawed {
    pub(crate) document: Document,
    pub(crate) base: Option<SnapshotId>,
    /// All of it as it was.
    pub(crate) memory: GuestMemory,
    /// Where that differs from what it was made of.
    pub(crate) overlay: Vec<Run>,
    /// Blocks that are not the base image's.
    pub(crate) disk: File,
}

impl Stored for Frozen {
    const MAGIC: [u8; 8] = *b"podfspac";
}

impl Files {
    /// Puts the descriptors that came with a request into their places.
    pub(crate) fn new(config: FreezeConfig, files: Vec<OwnedFd>) -> Result<Self, FreezeError> {
        let (came, needed) = (files.len(), config.descriptors());
        let mut files = files.into_iter().map(File::from);
        match (came == needed, files.next(), files.next(), files.next()) {
            (true, Some(memory), Some(disk), Some(state)) => Ok(Self {
                memory,
                disk,
                state,
                pagemap: files.next(),
                whole: config.whole,
            }),
            _ => Err(FreezeError::Descriptors { came, needed }),
        }
    }
}

/// Writes memory; `overlay` is what it was restored over what the VM was made of.
pub(crate) fn write_memory(
    memory: &GuestMemory,
    overlay: &[Run],
    files: &Files,
) -> Result<Delta, FreezeError> {
    let written = if files.whole {
        delta::write_whole(memory, &files.memory)
    } else {
        delta::write(memory, overlay, files.pagemap.as_ref(), &files.memory)
    };
    written.map_err(FreezeError::Memory)
}

/// Writes what says what the other files are. `begun` and `disk_begun` are when memory and disk were begun.
pub(crate) fn write_state(
    files: &Files,
    document: Document,
    base: Option<SnapshotId>,
    delta: Delta,
    (begun, disk_begun): (Instant, Instant),
) -> Result<FreezeReport, FreezeError> {
    let disk = Sums::of(&files.disk).map_err(FreezeError::DiskSums)?;
    let disk_us = microseconds(disk_begun);
    let base = base.filter(|_| !files.whole);
    let report = FreezeReport {
        base: base.map(SnapshotId::digits),
        pages_changed: delta.runs.iter().map(|run| u64::from(run.count)).sum(),
        runs: delta.runs.len() as u64,
        memory_bytes: delta.sums.bytes,
        disk_bytes: disk.bytes,
        state_bytes: 0,
        memory_us: microseconds(begun).saturating_sub(disk_us),
        disk_us,
    };
    let frozen = Frozen {
        document,
        base,
        runs: delta.runs,
        memory: delta.sums,
        disk,
    };
    let bytes = snapshot::encode(&frozen).map_err(FreezeError::Format)?;
    files.state.write_all_at(&bytes, 0).map_err(FreezeError::State)?;
    Ok(FreezeReport {
        state_bytes: bytes.len() as u64,
        ..report
    })
}

impl Thawed {
    /// Reads and checks everything; `template` is the directory of the snapshot it may lie over.
    /// `size` is what it counts for.
    pub(crate) fn open(space: &Path, template: &Path, size: VmSize) -> Result<Self, ThawError> {
        let state = open(space, FROZEN_STATE)?;
        let bytes = snapshot::read(&state).map_err(|source| ThawError::Read {
            path: space.join(FROZEN_STATE),
            source,
        })?;
        let frozen: Frozen = snapshot::decode(&bytes).map_err(ThawError::Format)?;
        let (file, disk) = (open(space, FROZEN_MEMORY)?, open(space, FROZEN_DISK)?);
        let damaged = |file| move |source| ThawError::Damaged { file, source };
        frozen.memory.check(&file).map_err(damaged(FROZEN_MEMORY))?;
        frozen.disk.check(&disk).map_err(damaged(FROZEN_DISK))?;
        let ram_mib = frozen.document.ram_mib;
        if !frozen.document.is_within(size) {
            return Err(ThawError::Larger);
        }
        if !runs::are_sound(&frozen.runs, u64::from(ram_mib) << 8, frozen.memory.bytes) {
            let what = "the runs of its memory";
            return Err(ThawError::Inconsistent { what });
        }
        let memory = match frozen.base {
            Some(id) => snapshot::open_memory(template, ram_mib, id).map_err(ThawError::Base)?,
            None => memory::allocate(ram_mib).map_err(ThawError::Allocate)?,
        };
        delta::lay_over(&memory, &frozen.runs, &file).map_err(ThawError::Memory)?;
        Ok(Self {
            document: frozen.document,
            base: frozen.base,
            memory,
            overlay: frozen.runs,
            disk,
        })
    }
}

fn open(space: &Path, name: &str) -> Result<File, ThawError> {
    let path = space.join(name);
    File::open(&path).map_err(|source| ThawError::Read { path, source })
}

fn microseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

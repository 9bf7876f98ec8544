//! The pages a fresh clone touches until its first answer, and having them ready before it runs.
//!
//! After a clone, page faults cost more than the clone itself: each page the guest touches takes an exit, a fault of
//! this process (and a copy, if it is written) and an entry in the nested page table. Done in a batch beforehand the
//! same work is several times cheaper, so what one clone of a template has touched is recorded, and every other one
//! gets exactly that.
//!
//! Recording asks the kernel which pages are mapped. That is only the truth if the kernel has not mapped others along
//! with them ("fault-around": up to 16 pages of a file that are in the page cache anyway). So a VM that is restored
//! without a working set, to record one, lets go of the file's cached pages and turns read-ahead off
//! ([`forget_cached_pages`]): then only what is touched is in the cache.

mod huge;
mod populate;
mod record;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::snapshot::{self, FormatError, SnapshotId, Stored};
pub(crate) use huge::prepare;
pub(crate) use populate::{map_for_guest, populate};
pub(crate) use record::{forget_cached_pages, record};

#[derive(Debug, Error)]
pub enum WorkingSetError {
    #[error("cannot tell which pages are in use")]
    Pages(#[source] io::Error),
    #[error("the VM is not a clone of a restored one")]
    NotRestored,
    #[error("cannot make {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the file is not whole")]
    Format(#[source] FormatError),
    #[error("it was recorded with another snapshot")]
    OtherSnapshot,
    #[error("it names memory the VM does not have")]
    OutsideMemory,
}

/// Pages that follow each other, numbered through all of RAM as it lies in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageRange {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkingSet {
    snapshot: SnapshotId,
    /// In order, without overlap.
    written: Vec<PageRange>,
    /// The same; none of them are written.
    read: Vec<PageRange>,
}

impl Stored for WorkingSet {
    const MAGIC: [u8; 8] = *b"podfwset";
}

impl WorkingSet {
    /// Reads the working set of a VM restored from `snapshot`, which has this many pages.
    pub(crate) fn open(path: &Path, snapshot: SnapshotId, pages: u64) -> Result<Self, WorkingSetError> {
        let bytes = File::open(path)
            .and_then(|file| snapshot::read(&file))
            .map_err(|source| WorkingSetError::Read {
                path: path.to_owned(),
                source,
            })?;
        let set: Self = snapshot::decode(&bytes).map_err(WorkingSetError::Format)?;
        if set.snapshot != snapshot {
            return Err(WorkingSetError::OtherSnapshot);
        }
        if is_within(&set.written, pages) && is_within(&set.read, pages) {
            Ok(set)
        } else {
            Err(WorkingSetError::OutsideMemory)
        }
    }

    /// Makes the file, whole or not at all.
    pub(crate) fn save(&self, path: &Path) -> Result<(), WorkingSetError> {
        let bytes = snapshot::encode(self).map_err(WorkingSetError::Format)?;
        snapshot::write_durably(path, &bytes).map_err(|source| WorkingSetError::Write {
            path: path.to_owned(),
            source,
        })
    }
}

/// Whether ranges are in order and none reaches beyond the end.
fn is_within(ranges: &[PageRange], pages: u64) -> bool {
    let mut next = 0;
    ranges.iter().all(|range| {
        let fits = u64::from(range.first) >= next;
        next = u64::from(range.first) + u64::from(range.count);
        fits && next <= pages
    })
}

#[cfg(test)]
mod tests;

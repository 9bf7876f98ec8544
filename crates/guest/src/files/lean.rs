//! Large files go through memory, but do not stay there.
//!
//! Each page of a guest's memory that is used for the first time is a page of the host's from then on, and costs a fault
//! of the slow kind. So of a file that is larger than what may stay, what lies a little behind is dropped from the page
//! cache again (which begins to write it to the disk where it is new), and the kernel uses the same pages for what comes
//! next.

use std::num::NonZeroU64;
use std::os::fd::AsFd;

use rustix::fs::{Advice, fadvise};

/// So much of a file may stay in memory: whoever moves it is likely to use it.
const STAYS_BYTES: u64 = 64 << 20;

/// How often pages are dropped, and how far behind: the disk shall be done with most of them.
const STEP_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct Lean {
    begin: u64,
    moved: u64,
    next: u64,
}

impl Lean {
    /// From this place in a file on.
    pub(super) fn at(offset: u64) -> Self {
        Self {
            begin: offset,
            moved: offset,
            next: offset.saturating_add(STAYS_BYTES),
        }
    }

    /// So many bytes more have been read or written.
    pub(super) fn moved(&mut self, file: impl AsFd, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
        if self.moved < self.next {
            return;
        }
        self.next = self.moved.saturating_add(STEP_BYTES);
        // From the beginning each time: pages that were on their way to the disk are still there. Best effort.
        let behind = self.moved.saturating_sub(STEP_BYTES).saturating_sub(self.begin);
        if let Some(behind) = NonZeroU64::new(behind) {
            let _ = fadvise(file, self.begin, Some(behind), Advice::DontNeed);
        }
    }
}

//! What a sandbox's agent was told to leave free of its disk.

use api::Source;
use std::sync::atomic::{AtomicU64, Ordering};

/// Told nothing yet, or that all of it may be used.
const ALL: u64 = u64::MAX;

/// It may have been told something that nobody remembers.
const UNSURE: u64 = u64::MAX - 1;

#[derive(Debug)]
pub(crate) struct DiskRoom {
    leave_mib: AtomicU64,
}

impl Default for DiskRoom {
    fn default() -> Self {
        Self {
            leave_mib: AtomicU64::new(ALL),
        }
    }
}

impl DiskRoom {
    /// A VM that was made just now was told nothing; one that comes from elsewhere may have been.
    pub(crate) fn of(source: Source) -> Self {
        let room = Self::default();
        if !matches!(source, Source::Pool | Source::Clone | Source::Boot | Source::Fork) {
            room.unsure();
        }
        room
    }

    /// A clone's agent keeps out of use what its parent's does.
    pub(crate) fn inherit(&self, parent: &Self) {
        self.told(parent.leave_mib.load(Ordering::Relaxed));
    }

    /// Whether it should be told to leave so much: each tells costs a request, so small changes are left out.
    pub(crate) fn wants(&self, leave_mib: u64) -> bool {
        let last = self.leave_mib.load(Ordering::Relaxed);
        last == ALL || last.abs_diff(leave_mib) > last / 10
    }

    /// Whether something is kept out of use.
    pub(crate) fn is_bounded(&self) -> bool {
        self.leave_mib.load(Ordering::Relaxed) != ALL
    }

    pub(crate) fn told(&self, leave_mib: u64) {
        self.leave_mib.store(leave_mib, Ordering::Relaxed);
    }

    /// Its VM is one of before.
    pub(crate) fn unsure(&self) {
        self.told(UNSURE);
    }

    pub(crate) fn free(&self) {
        self.told(ALL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_are_not_told() {
        let room = DiskRoom::default();
        assert!(room.wants(100) && !room.is_bounded());
        room.told(100);
        assert!(room.is_bounded() && !room.wants(95) && room.wants(80));
        room.told(0);
        assert!(!room.wants(0) && room.wants(1));
        let child = DiskRoom::default();
        child.inherit(&room);
        assert!(child.is_bounded());
        room.unsure();
        assert!(room.is_bounded() && room.wants(100));
        room.free();
        assert!(!room.is_bounded());
    }
}

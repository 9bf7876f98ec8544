//! The host's disk, where all that guests write ends up.
//!
//! Disks of guests are thin: together they may hold far more than the host has. A host whose disk is full would fail
//! writes that guests believe done, so it never comes to that:
//!
//! ```text
//!  free ─────────────┬─────────────────────┬──────────────┬───────── 0
//!        all is well │ low: guests may use │ the reserve: │ half of it:
//!                    │ only a part of what │ no sandboxes │ the sandbox that
//!                    │ is left             │ are made     │ holds most ends
//! ```
//!
//! What a guest may not use, its agent keeps out of use ([`agent_proto::Request::Room`]), so that its programs get
//! `ENOSPC` from their own file system and nothing is lost. The reserve is for the database, for what is frozen, and for
//! blocks that guests write anew in place of those they share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// How often the disk is looked at, far from the reserve and near it.
const CALM: Duration = Duration::from_secs(1);
const ALERT: Duration = Duration::from_millis(250);

const MIB: u64 = 1024 * 1024;

/// The reserve where none is set: a twentieth of the disk, within these.
const RESERVE_LEAST_MIB: u64 = 128;
const RESERVE_MOST_MIB: u64 = 2048;

/// It is low below so many times the reserve, and well again above so many.
const LOW_AT: u64 = 3;
const WELL_AT: u64 = 4;

/// Guests that may be writing at the same time while it is low: each is left such a part of what is there.
const WRITERS: u64 = 4;

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    pub total_mib: u64,
    pub free_mib: u64,
}

/// Tells how much room there is where a path leads. Tests have their own.
pub type DiskProbe = fn(&Path) -> Option<DiskSpace>;

pub(crate) struct DiskWatch {
    path: PathBuf,
    probe: DiskProbe,
    reserve_mib: u64,
    /// At the last look; without limit when it cannot be learned.
    free_mib: AtomicU64,
    total_mib: AtomicU64,
}

/// The host's disk has too little left, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskFull {
    pub(crate) free_mib: u64,
    pub(crate) reserve_mib: u64,
}

/// How the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fullness {
    Well,
    /// Neither low nor well: what was said last goes on.
    Between,
    /// No guest may write more than this many MiB.
    Low {
        leave_mib: u64,
    },
    /// Half of the reserve is gone.
    Critical,
}

impl DiskWatch {
    pub(crate) fn new(path: &Path, probe: DiskProbe, reserve_mib: Option<u64>) -> Arc<Self> {
        let total_mib = probe(path).map_or(0, |space| space.total_mib);
        let usual = (total_mib / 20).clamp(RESERVE_LEAST_MIB, RESERVE_MOST_MIB);
        let watch = Self {
            path: path.to_owned(),
            probe,
            // More than half of the disk would leave nothing to use.
            reserve_mib: reserve_mib.unwrap_or(usual.min(total_mib / 2)),
            free_mib: AtomicU64::new(u64::MAX),
            total_mib: AtomicU64::new(total_mib),
        };
        watch.look();
        Arc::new(watch)
    }

    /// Admits something that will write.
    pub(crate) fn admit(&self) -> Result<(), DiskFull> {
        let free_mib = self.free_mib.load(Ordering::Relaxed);
        if free_mib < self.reserve_mib {
            return Err(DiskFull {
                free_mib,
                reserve_mib: self.reserve_mib,
            });
        }
        Ok(())
    }

    /// Waits until the next look is due, and looks.
    pub(crate) async fn next_look(&self) -> Fullness {
        let near = self.free_mib.load(Ordering::Relaxed) < self.reserve_mib.saturating_mul(2 * WELL_AT);
        sleep(if near { ALERT } else { CALM }).await;
        self.look();
        self.fullness()
    }

    pub(crate) fn fullness(&self) -> Fullness {
        let free = self.free_mib.load(Ordering::Relaxed);
        let reserve = self.reserve_mib;
        if free < reserve / 2 {
            Fullness::Critical
        } else if free < reserve.saturating_mul(LOW_AT) {
            Fullness::Low {
                leave_mib: free.saturating_sub(reserve) / WRITERS,
            }
        } else if free < reserve.saturating_mul(WELL_AT) {
            Fullness::Between
        } else {
            Fullness::Well
        }
    }

    /// At the last look; none where it cannot be learned.
    pub(crate) fn space(&self) -> Option<(DiskSpace, u64)> {
        let free_mib = self.free_mib.load(Ordering::Relaxed);
        let total_mib = self.total_mib.load(Ordering::Relaxed);
        (free_mib != u64::MAX).then_some((DiskSpace { total_mib, free_mib }, self.reserve_mib))
    }

    /// How much is free, and how much is to stay free, at this moment.
    pub(crate) fn look_now(&self) -> Option<(u64, u64)> {
        self.look();
        self.space().map(|(space, reserve)| (space.free_mib, reserve))
    }

    fn look(&self) {
        let space = (self.probe)(&self.path);
        self.free_mib
            .store(space.map_or(u64::MAX, |space| space.free_mib), Ordering::Relaxed);
        if let Some(space) = space {
            self.total_mib.store(space.total_mib, Ordering::Relaxed);
        }
    }
}

/// What an ordinary user could still write to the file system that a path leads to.
#[must_use]
pub fn disk_space(path: &Path) -> Option<DiskSpace> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let mib = |blocks: u64| blocks.saturating_mul(stat.f_frsize) / MIB;
    Some(DiskSpace {
        total_mib: mib(stat.f_blocks),
        free_mib: mib(stat.f_bavail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(free_mib: u64) -> DiskWatch {
        DiskWatch {
            path: PathBuf::new(),
            probe: |_| None,
            reserve_mib: 1000,
            free_mib: AtomicU64::new(free_mib),
            total_mib: AtomicU64::new(20_000),
        }
    }

    #[test]
    fn guests_get_less_as_it_fills_up_and_none_is_made_in_the_reserve() {
        let told = |free| watch(free).fullness();
        assert_eq!(told(u64::MAX), Fullness::Well);
        assert_eq!(told(4000), Fullness::Well);
        assert_eq!(told(3999), Fullness::Between);
        assert_eq!(told(2999), Fullness::Low { leave_mib: 499 });
        assert_eq!(told(1004), Fullness::Low { leave_mib: 1 });
        assert_eq!(told(999), Fullness::Low { leave_mib: 0 });
        assert_eq!(told(499), Fullness::Critical);
        assert!(watch(1000).admit().is_ok());
        let refused = DiskFull {
            free_mib: 999,
            reserve_mib: 1000,
        };
        assert_eq!(watch(999).admit(), Err(refused));
    }

    #[test]
    fn the_reserve_fits_the_disk_unless_it_is_set() {
        let of = |probe: DiskProbe, set| DiskWatch::new(Path::new("/"), probe, set).reserve_mib;
        assert_eq!(
            of(
                |_| Some(DiskSpace {
                    total_mib: 100_000,
                    free_mib: 1
                }),
                None
            ),
            2048
        );
        assert_eq!(
            of(
                |_| Some(DiskSpace {
                    total_mib: 10_000,
                    free_mib: 1
                }),
                None
            ),
            500
        );
        assert_eq!(
            of(
                |_| Some(DiskSpace {
                    total_mib: 200,
                    free_mib: 1
                }),
                None
            ),
            100
        );
        assert_eq!(
            of(
                |_| Some(DiskSpace {
                    total_mib: 200,
                    free_mib: 1
                }),
                Some(7)
            ),
            7
        );
        assert_eq!(of(|_| None, None), 0);
    }

    #[test]
    fn a_disk_tells_its_room() {
        let space = disk_space(Path::new("/")).unwrap();
        assert!(space.free_mib <= space.total_mib && space.total_mib > 0);
        assert_eq!(disk_space(Path::new("/nowhere/at/all")), None);
    }
}

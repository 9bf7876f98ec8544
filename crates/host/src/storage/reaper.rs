//! Orphans: VM processes and directories under the data directory that nobody here answers for.
//!
//! There should be none. One comes to be when a VM is killed just while it makes clones, whose numbers it never told,
//! or by a fault of ours. What was made a moment ago may only not be on the [roster](Roster) yet, so an orphan is
//! something that was unknown for a while.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::data_dir::remove;
use crate::metrics::Metrics;
use crate::vm::{Roster, vm_processes};

/// Looking through all processes takes some milliseconds of a busy host.
const PERIOD: Duration = Duration::from_secs(60);

/// Longer than anything stays unknown that is about to be known: the bound of cloning is 10 s.
const GRACE: Duration = Duration::from_secs(15);

/// Finds orphans now and then, and when there is reason to think that there are some.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reaper {
    suspicion: Arc<Notify>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    processes: u64,
    files: u64,
}

/// What was unknown at the last look, and since when.
#[derive(Debug, Default)]
struct Suspects {
    pids: HashMap<u32, Instant>,
    dirs: HashMap<OsString, Instant>,
}

impl Reaper {
    /// Something went wrong that may have left an orphan.
    pub(crate) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Never ends.
    pub(crate) async fn work(self, vms: PathBuf, roster: Roster, metrics: Arc<Metrics>) {
        let mut suspects = Suspects::default();
        loop {
            let pause = if suspects.pids.is_empty() && suspects.dirs.is_empty() {
                PERIOD
            } else {
                GRACE
            };
            drop(timeout(pause, self.suspicion.notified()).await);
            let (vms, roster, metrics) = (vms.clone(), roster.clone(), Arc::clone(&metrics));
            let looked = tokio::task::spawn_blocking(move || {
                let found = suspects.look(&vms, &roster, Instant::now(), GRACE);
                metrics.vms.orphans(found.processes, found.files);
                suspects
            });
            suspects = looked.await.unwrap_or_default();
        }
    }
}

impl Suspects {
    /// Ends what has been unknown for `grace`.
    fn look(&mut self, vms: &Path, roster: &Roster, now: Instant, grace: Duration) -> Found {
        let mut found = Found::default();
        let unknown = vm_processes(vms).into_iter().filter(|pid| !roster.has_pid(*pid));
        for pid in overdue(&mut self.pids, unknown, now, grace) {
            found.processes += 1;
            tracing::warn!(pid, "ending a VM process that belongs to nobody");
            if let Ok(number) = i32::try_from(pid) {
                // It may have ended by itself meanwhile.
                let _ = kill(Pid::from_raw(number), Signal::SIGKILL);
            }
        }
        let entries = fs::read_dir(vms).into_iter().flatten().filter_map(Result::ok);
        let unknown = entries
            .map(|entry| entry.file_name())
            .filter(|name| !roster.has_dir(name));
        for name in overdue(&mut self.dirs, unknown, now, grace) {
            found.files += 1;
            let path = vms.join(name);
            tracing::warn!(path = %path.display(), "removing files of a VM that belong to nobody");
            let removed = if path.is_dir() {
                remove(&path)
            } else {
                fs::remove_file(&path)
            };
            if let Err(error) = removed {
                tracing::error!(%error, path = %path.display(), "cannot remove files of a VM");
            }
        }
        found
    }
}

/// Notes what is unknown now and forgets the rest; gives what has been unknown for `grace`.
fn overdue<T: Clone + Eq + Hash>(
    suspects: &mut HashMap<T, Instant>,
    unknown: impl Iterator<Item = T>,
    now: Instant,
    grace: Duration,
) -> Vec<T> {
    let noted: HashMap<T, Instant> = unknown
        .map(|suspect| {
            let since = suspects.get(&suspect).copied().unwrap_or(now);
            (suspect, since)
        })
        .collect();
    *suspects = noted;
    suspects
        .iter()
        .filter(|(_, since)| now.duration_since(**since) >= grace)
        .map(|(suspect, _)| suspect.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_unknown_is_removed_and_what_belongs_to_somebody_stays() {
        let dir = tempfile::tempdir().unwrap();
        let roster = Roster::default();
        for name in ["1", "2", "3"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("9.layer"), "").unwrap();
        let _ticket = roster.add_dir("1".into());
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        let left = || {
            let mut left: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            left.sort();
            left
        };
        suspects.look(dir.path(), &roster, start, GRACE);
        assert_eq!(left(), ["1", "2", "3", "9.layer"]);
        // Meanwhile somebody answers for one of them.
        let _late = roster.add_dir("2".into());
        suspects.look(dir.path(), &roster, start + GRACE, GRACE);
        assert_eq!(left(), ["1", "2"]);
    }
}

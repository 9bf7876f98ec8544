//! What a daemon that is gone has left: VMs to take over, and everything else, which ends.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use pod_types::ErrorChain;

use super::codec::Kept;
use super::{CheckpointRecord, Record, read};
use crate::vm::{ProcessName, VmFiles, VmmSpawner, boot_id};

/// What is to be taken over.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) orphans: Vec<Orphan>,
    /// Of sandboxes among those, oldest first.
    pub(crate) bookmarks: Vec<Bookmark>,
    /// Higher than the name of any directory that stays.
    pub(crate) next_home: u64,
}

/// A sandbox without a daemon.
#[derive(Debug, PartialEq)]
pub(crate) struct Orphan {
    /// Of its directory.
    pub(crate) name: OsString,
    pub(crate) record: Record,
    /// None when it is gone.
    pub(crate) process: Option<ProcessName>,
}

/// A checkpoint without a daemon.
#[derive(Debug, PartialEq)]
pub(crate) struct Bookmark {
    /// Of its directory.
    pub(crate) name: OsString,
    pub(crate) record: CheckpointRecord,
}

/// Looks at every directory under `vms`. What is not given back is to be ended and removed.
pub(crate) fn sort_out(vms: &Path, spawner: &dyn VmmSpawner) -> io::Result<Found> {
    let running: HashSet<ProcessName> = spawner.running(vms).into_iter().collect();
    let boot = boot_id();
    let mut found = Found::default();
    let (mut records, mut bookmarks) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(vms)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.parse::<u64>().ok()) {
            found.next_home = found.next_home.max(number);
        }
        let files = VmFiles { dir: entry.path() };
        match usable::<Record>(&files.record()) {
            Some(record) if record.boot != boot => {
                tracing::info!(sandbox_id = %record.id, "a sandbox ended with the machine it ran on");
            }
            Some(record) => records.push((name, record)),
            None => {
                let record = usable::<CheckpointRecord>(&files.checkpoint());
                let here =
                    |record: &CheckpointRecord| record.boot == boot && running.contains(&record.process);
                bookmarks.extend(record.filter(here).map(|record| Bookmark { name, record }));
            }
        }
    }
    found.next_home += 1;
    found.orphans = claimed(records, &running);
    bookmarks.sort_by_key(|bookmark| (bookmark.record.created_at_ms, bookmark.record.id));
    found.bookmarks = bookmarks;
    Ok(found)
}

/// The record at a path, if there is one of use.
fn usable<R: Kept>(path: &Path) -> Option<R> {
    read(path).unwrap_or_else(|error| {
        tracing::error!(
            record = %path.display(),
            error = %ErrorChain(&error),
            "a record cannot be used; nobody knows whose the VM beside it is, so that is ended"
        );
        None
    })
}

/// Each id and each process once: those with the highest claim.
fn claimed(mut records: Vec<(OsString, Record)>, running: &HashSet<ProcessName>) -> Vec<Orphan> {
    records.sort_by_key(|(name, record)| (std::cmp::Reverse(record.claim), name.clone()));
    let (mut ids, mut pids) = (HashSet::new(), HashSet::new());
    let mut orphans = Vec::new();
    for (name, record) in records {
        let process = record.process.filter(|process| running.contains(process));
        let taken = process.is_some_and(|process| !pids.insert(process.pid));
        if taken || !ids.insert(record.id) {
            tracing::info!(sandbox_id = %record.id, "another VM has taken the place of this one");
            continue;
        }
        orphans.push(Orphan {
            name,
            record,
            process,
        });
    }
    orphans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::codec::tests::{id, records};
    use crate::records::write;
    use crate::simulation::Simulation;
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;

    fn record(number: u64, claim: u64, pid: u32) -> Record {
        let any = records().new_tree(&mut TestRunner::default()).unwrap().current();
        Record {
            id: id(number),
            claim,
            process: Some(ProcessName { pid, started: 1 }),
            boot: boot_id(),
            ..any
        }
    }

    #[test]
    fn the_highest_claim_has_the_id_and_a_process_belongs_to_one() {
        let running = HashSet::from([7, 8, 9].map(|pid| ProcessName { pid, started: 1 }));
        let records = vec![
            ("1".into(), record(1, 0, 7)),
            ("2".into(), record(1, 3, 8)),
            ("3".into(), record(2, 0, 9)),
            ("4".into(), record(3, 0, 9)),
            ("5".into(), record(4, 0, 10)),
        ];
        let orphans = claimed(records, &running);
        let seen: Vec<_> = orphans
            .iter()
            .map(|orphan| {
                (
                    orphan.name.to_str().unwrap(),
                    orphan.process.map(|process| process.pid),
                )
            })
            .collect();
        assert_eq!(seen, [("2", Some(8)), ("3", Some(9)), ("5", None)]);
    }

    #[tokio::test]
    async fn directories_of_another_boot_without_a_record_or_with_a_damaged_one_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["3", "8", "11", "12"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        write(&dir.path().join("3/record"), &record(1, 0, 7)).unwrap();
        let stale = Record {
            boot: "another".to_owned(),
            ..record(2, 0, 7)
        };
        write(&dir.path().join("8/record"), &stale).unwrap();
        fs::write(dir.path().join("11/record"), "podflare-sandbox 1 0\n{}").unwrap();
        fs::write(dir.path().join("9.layer"), "").unwrap();
        let found = sort_out(dir.path(), &Simulation::default()).unwrap();
        assert_eq!(found.next_home, 13);
        assert_eq!(found.orphans.len(), 1);
        assert_eq!(
            (found.orphans[0].name.to_str(), found.orphans[0].process),
            (Some("3"), None)
        );
    }
}

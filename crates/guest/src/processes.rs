//! Looks into `/proc`: which processes a run has started, and whether one has taken a signal.
//!
//! Used only when things do not go their ordinary way, so it may take a while.  A process belongs to a
//! run when it descends from the run's root process, or is in its process group or session, and was not there
//! before the run began. One that has left all three (a daemon) has chosen to outlive the run.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// Processes looked at; a machine of 1 GiB has room for far fewer.
const PROCESSES_MAX: usize = 100_000;
/// Kernel clock ticks per second as user space sees them (`USER_HZ`), on every x86 and arm64 Linux.
const TICKS_PER_SECOND: u64 = 100;

/// A moment on the clock that process start times are given in: ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    start: Tick,
}

impl Tick {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Self(seconds * TICKS_PER_SECOND + nanoseconds * TICKS_PER_SECOND / 1_000_000_000)
    }
}

/// Sends a signal to all that `root` has started since `since`, but not to `root` itself.
pub(crate) fn signal_started(root: Pid, since: Tick, signal: Signal) {
    for pid in started(&snapshot(), root.as_raw_nonzero().get(), since) {
        if let Some(pid) = Pid::from_raw(pid) {
            // It may have ended by now. Ids are handed out in a circle, so a stranger does not have this one yet.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Whether a process handles a signal and none is waiting to be delivered to it.
pub(crate) fn has_taken(pid: Pid, signal: Signal) -> bool {
    fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))
        .is_ok_and(|status| status_has_taken(&status, signal))
}

/// Reads `/proc/<pid>/status` (proc_pid_status(5)), where sets of signals are hexadecimal.
fn status_has_taken(status: &str, signal: Signal) -> bool {
    let bit = 1_u64 << (signal.as_raw() - 1);
    let has = |name: &str| {
        let set = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(u64::from_str_radix(set.trim(), 16).ok()? & bit != 0)
    };
    has("SigCgt:") == Some(true) && has("SigPnd:") == Some(false) && has("ShdPnd:") == Some(false)
}

fn snapshot() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .first()
                .is_some_and(u8::is_ascii_digit)
        })
        .take(PROCESSES_MAX)
        .filter_map(|entry| parse(&fs::read(entry.path().join("stat")).ok()?))
        .collect()
}

/// Reads `/proc/<pid>/stat` (proc_pid_stat(5)). The name in it is the process's own choice and may hold anything,
/// so fields are counted from its last parenthesis.
fn parse(stat: &[u8]) -> Option<Stat> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(stat.split(|byte| *byte == b' ').next()?).ok()?;
    let fields: Vec<_> = std::str::from_utf8(&stat[name_end + 1..])
        .ok()?
        .split_ascii_whitespace()
        .collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        start: Tick(fields.get(19)?.parse().ok()?),
    })
}

fn started(processes: &[Stat], root: i32, since: Tick) -> Vec<i32> {
    let mut family = HashSet::from([root]);
    // A child may be listed before its parent, so look until nothing is added.
    loop {
        let before = family.len();
        for process in processes {
            if family.contains(&process.parent) || process.group == root || process.session == root {
                family.insert(process.pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    processes
        .iter()
        .filter(|process| process.pid != root && process.start >= since && family.contains(&process.pid))
        .map(|process| process.pid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, group: i32, start: u64) -> Stat {
        Stat {
            pid,
            parent,
            group,
            session: group,
            start: Tick(start),
        }
    }

    #[test]
    fn descendants_and_group_members_of_this_run_are_found() {
        let processes = [
            stat(30, 20, 30, 9), // grandchild in its own group, listed before its parent
            stat(10, 1, 10, 1),  // the root
            stat(20, 10, 10, 9), // child
            stat(21, 10, 10, 4), // child of an earlier run
            stat(40, 1, 10, 9),  // orphan still in the group
            stat(50, 1, 50, 9),  // a daemon
        ];
        assert_eq!(started(&processes, 10, Tick(5)), [30, 20, 40]);
    }

    #[test]
    fn a_signal_is_taken_when_it_is_handled_and_waits_nowhere() {
        let status = |thread: u64, process: u64, caught: u64| {
            let sets = format!("SigPnd:\t{thread:016x}\nShdPnd:\t{process:016x}\nSigCgt:\t{caught:016x}\n");
            status_has_taken(&sets, Signal::STKFLT)
        };
        let bit = 0x8000;
        assert!(status(0, 1, bit));
        assert!(!status(bit, 0, bit) && !status(0, bit, bit) && !status(0, 0, 0));
        assert!(!status_has_taken("", Signal::STKFLT));
    }

    #[test]
    fn a_process_cannot_hide_behind_its_name() {
        let line = b"42 (a) R 1 1 (evil)) S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0";
        let expected = Stat {
            pid: 42,
            parent: 7,
            group: 8,
            session: 9,
            start: Tick(1234),
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"42 (x"), None);
    }

    #[test]
    fn this_process_is_in_the_snapshot_and_started_before_now() {
        let me = i32::try_from(std::process::id()).unwrap();
        let now = Tick::now();
        assert!(snapshot().iter().any(|stat| stat.pid == me && stat.start <= now));
    }
}

//! Finds processes in `/proc` by what they were started with, and ends them.
//!
//! A process id alone proves nothing: it may have been given to another process since. A process is ours when its
//! command line holds an argument pair only we would give (an option and a path in our run directory), and it is
//! the same as before when its start time is the same (field 22 of `/proc/<pid>/stat`, in clock ticks since boot).

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How often the end of a process is looked for.
const POLL: Duration = Duration::from_millis(20);

/// One process for good, unlike a process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// When it started, in clock ticks since the machine booted.
    pub start_ticks: u64,
}

impl ProcessId {
    /// The process that has this id now.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self {
            pid,
            start_ticks: parse_stat(&stat)?.start_ticks,
        })
    }

    /// The calling process.
    #[must_use]
    pub fn current() -> Option<Self> {
        Self::of(Pid::this().as_raw())
    }

    /// Whether it still runs. One that has ended but was not waited for by its parent does not run.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok();
        stat.as_deref()
            .and_then(parse_stat)
            .is_some_and(|stat| stat.start_ticks == self.start_ticks && !matches!(stat.state, 'Z' | 'X'))
    }

    /// The name the kernel has for it.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        Some(
            fs::read_to_string(format!("/proc/{}/comm", self.pid))
                .ok()?
                .trim_end()
                .to_owned(),
        )
    }

    /// Sends a signal; a process that is gone already is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        if !self.is_alive() {
            return Ok(());
        }
        match signal::kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) => Ok(()),
            sent => sent,
        }
    }

    /// Waits for its end; tells whether it came within `limit`.
    pub(crate) fn wait_for_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// Asks it to end, and kills it after `grace`; tells whether it is gone.
    pub(crate) fn end(&self, grace: Duration) -> bool {
        let asked = self.signal(Signal::SIGTERM).is_ok();
        if asked && self.wait_for_end(grace) {
            return true;
        }
        self.signal(Signal::SIGKILL).is_ok() && self.wait_for_end(Duration::from_secs(10))
    }
}

/// The processes with `option` directly followed by `value` among their arguments.
pub(crate) fn find_by_argument(option: &str, value: &Path) -> Vec<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| has_argument(&line, option.as_bytes(), value.as_os_str().as_encoded_bytes()))
    })
    .filter_map(ProcessId::of)
    .filter(ProcessId::is_alive)
    .collect()
}

fn has_argument(cmdline: &[u8], option: &[u8], value: &[u8]) -> bool {
    let arguments: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    arguments
        .windows(2)
        .any(|pair| pair[0] == option && pair[1] == value)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start_ticks: u64,
}

/// The name in parentheses may hold anything, so fields are counted from the last closing one (proc(5)).
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // `state` was field 3, so 18 are skipped to reach field 22.
    Some(Stat {
        state,
        start_ticks: fields.nth(18)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_name_with_parentheses_and_spaces_does_not_confuse() {
        let stat = "12 (a) R 1 (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(
            parse_stat(stat),
            Some(Stat {
                state: 'S',
                start_ticks: 4711
            })
        );
    }

    #[test]
    fn only_the_exact_pair_of_arguments_counts() {
        let line = b"qemu\0-pidfile\0/run/a b\0-m\0";
        assert!(has_argument(line, b"-pidfile", b"/run/a b"));
        assert!(!has_argument(line, b"-pidfile", b"/run/a"));
        assert!(!has_argument(line, b"-m", b"/run/a b"));
        assert!(!has_argument(b"", b"-m", b"1"));
    }

    #[test]
    fn a_process_is_found_by_its_arguments_and_ended() {
        let unique = format!("podflare-test-{}", std::process::id());
        let mut child = Command::new("sh")
            .args(["-c", "exec tail -f /dev/null --retry", "--marker", &unique])
            .spawn()
            .unwrap();
        // Until `exec` the shell carries the marker itself; either of the two is the process meant.
        let found = find_by_argument("--marker", Path::new(&unique));
        let id = ProcessId::of(child.id().cast_signed()).unwrap();
        assert!(found.is_empty() || found == [id], "{found:?}");
        assert!(id.is_alive());
        let reaper = thread::spawn(move || child.wait());
        assert!(id.end(Duration::from_secs(5)));
        assert!(!id.is_alive());
        reaper.join().unwrap().unwrap();
    }

    #[test]
    fn a_reused_process_id_is_another_process() {
        let here = ProcessId::current().unwrap();
        assert!(here.is_alive());
        assert!(
            !ProcessId {
                start_ticks: here.start_ticks + 1,
                ..here
            }
            .is_alive()
        );
    }
}

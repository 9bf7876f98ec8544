//! What the kernel says of processes.
//!
//! A VM process names its directory on its command line, which is how it is known here: no file with a number in
//! it can go stale, and a process that got the number later does not have such a command line. A clone has the command
//! line of the VM it descends from, so this tells whose it is and not which it is.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::process::{Pid, setpriority_pgrp};

/// Of setpriority(2): the least of all.
const NICE_MAX: i32 = 19;

/// From `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) parent: u32,
    /// In ticks since the machine's start.
    pub(super) started: u64,
}

impl Facts {
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the kernel tells nothing of it");
        Self::read(&line).ok_or_else(unreadable)
    }

    /// The name of a process is in parentheses and may hold anything. After it come fields 3, 4 (the parent) … 22 (the
    /// start) of proc_pid_stat(5).
    fn read(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Self {
            parent: fields.nth(1)?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

pub(super) fn started(pid: u32) -> Option<u64> {
    Facts::of(pid).ok().map(|facts| facts.started)
}

/// Lets all threads of a process group run after everybody else's, or beside them again. Only a wish: a daemon that is not
/// root may not take it back, and a group that has just ended needs nothing.
pub(super) fn give_way(group: u32, gives: bool) {
    let group = i32::try_from(group).ok().and_then(Pid::from_raw);
    if group.is_some() {
        let _ = setpriority_pgrp(group, if gives { NICE_MAX } else { 0 });
    }
}

/// The user a process runs as. Its entry in `/proc` belongs to root when it must not be looked into.
pub(super) fn user(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Differs after every start of the machine; empty where the kernel does not tell.
pub(crate) fn boot_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    let read = || {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    };
    ID.get_or_init(read).clone()
}

/// Processes that run a VM whose directory is under `vms`.
pub(crate) fn vm_processes(vms: &Path) -> Vec<u32> {
    processes(|line| names_vm_under(line, vms))
}

/// Processes that were started with this option and this value.
pub(super) fn programs(option: &str, value: &Path) -> Vec<u32> {
    processes(|line| {
        let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let mut pairs = arguments.windows(2);
        pairs.any(|pair| pair[0] == option.as_bytes() && pair[1] == value.as_os_str().as_bytes())
    })
}

fn processes(wanted: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            // Kernel threads and zombies have an empty one; a process that ended meanwhile has none.
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| wanted(&line))
        })
        .collect()
}

/// Whether a command line, arguments ended by zeros, is `… run --dir <vms>/<something>`.
fn names_vm_under(command_line: &[u8], vms: &Path) -> bool {
    let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    arguments.windows(3).any(|window| {
        window[0] == b"run"
            && window[1] == b"--dir"
            && window[2]
                .strip_prefix(vms.as_os_str().as_bytes())
                .is_some_and(|rest| rest.len() > 1 && rest.starts_with(b"/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_command_lines_of_vms_under_this_directory_are_ours() {
        let vms = Path::new("/data/vms");
        let ours = |line: &str| names_vm_under(line.replace(' ', "\0").as_bytes(), vms);
        assert!(ours("podflare-vmm run --dir /data/vms/sbx_1"));
        assert!(!ours("podflare-vmm run --dir /data/vms/"));
        assert!(!ours("podflare-vmm run --dir /data/vms2/sbx_1"));
        assert!(!ours("vi /data/vms/sbx_1/console.log"));
        assert!(!ours(""));
    }

    #[test]
    fn a_process_may_have_any_name() {
        let line = "7 (a) b) S 42 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2";
        let facts = Facts {
            parent: 42,
            started: 4711,
        };
        assert_eq!(Facts::read(line), Some(facts));
        assert_eq!(Facts::read(&line[..30]), None);
        assert_eq!(Facts::read(""), None);
    }
}

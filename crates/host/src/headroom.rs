//! How near the host is to each of its limits, for `podflare doctor`.

use std::fs;

use api::{Headroom, HeadroomKind};
use rustix::process::{Resource, getrlimit};

/// Processes of VMs whose maps are counted: they are alike.
const LOOKED_AT: usize = 8;

/// What the kernel tells. Reads files; not for an asynchronous thread.
pub(crate) fn of_kernel(vms: &[u32]) -> Vec<Headroom> {
    [threads(), open_files(), files_of_host(), maps(vms)]
        .into_iter()
        .flatten()
        .collect()
}

pub(crate) fn one(what: HeadroomKind, used: u64, limit: u64) -> Headroom {
    Headroom { what, used, limit }
}

fn threads() -> Option<Headroom> {
    // "0.20 0.18 0.12 1/80 11206": the second of the pair counts all threads (proc_loadavg(5)).
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let pair = text.split_ascii_whitespace().nth(3)?;
    let used = pair.split('/').nth(1)?.parse().ok()?;
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let limit = limits.iter().filter_map(|path| number(path)).min()?;
    Some(one(HeadroomKind::Threads, used, limit))
}

fn open_files() -> Option<Headroom> {
    let used = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let limit = getrlimit(Resource::Nofile).current?;
    Some(one(HeadroomKind::OpenFiles, used, limit))
}

fn files_of_host() -> Option<Headroom> {
    // In use, free, most there may be (proc_sys_fs(5)).
    let text = fs::read_to_string("/proc/sys/fs/file-nr").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (used, limit) = (numbers.next()?.ok()?, numbers.nth(1)?.ok()?);
    Some(one(HeadroomKind::FilesOfHost, used, limit))
}

fn maps(vms: &[u32]) -> Option<Headroom> {
    let limit = number("/proc/sys/vm/max_map_count")?;
    let counts = vms.iter().take(LOOKED_AT).filter_map(|pid| {
        let text = fs::read(format!("/proc/{pid}/maps")).ok()?;
        Some(text.iter().filter(|byte| **byte == b'\n').count() as u64)
    });
    Some(one(HeadroomKind::Maps, counts.max().unwrap_or(0), limit))
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_all_of_them_and_none_is_used_up() {
        let found = of_kernel(&[std::process::id()]);
        assert_eq!(found.len(), 4, "{found:?}");
        for headroom in found {
            assert!(headroom.used < headroom.limit, "{headroom:?}");
        }
    }
}

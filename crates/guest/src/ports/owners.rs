//! Which processes have which sockets, as far as `/proc` tells within bounds.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_proto::{COMMAND_BYTES_MAX, Listener};

/// Descriptors looked at: what a busy machine has. A list without some names is better than one that does not come.
const DESCRIPTORS_MAX: usize = 200_000;
/// The same for time.
const TIME_MAX: Duration = Duration::from_secs(2);

/// The process with the lowest id that has each of these sockets.
pub(super) fn find(inodes: impl Iterator<Item = u64>) -> HashMap<u64, Listener> {
    let mut wanted: HashSet<u64> = inodes.collect();
    let mut found = HashMap::new();
    let (begun, mut looked_at) = (Instant::now(), 0);
    for pid in processes() {
        if wanted.is_empty() || looked_at > DESCRIPTORS_MAX || begun.elapsed() > TIME_MAX {
            break;
        }
        let process = Path::new("/proc").join(pid.to_string());
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten() {
            looked_at += 1;
            let Some(inode) = socket(&descriptor.path()).filter(|inode| wanted.remove(inode)) else {
                continue;
            };
            let command = command(&process);
            found.insert(inode, Listener { pid, command });
        }
    }
    found
}

/// In ascending order, so that a server is named before the workers that it has made.
fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids
}

/// The inode of a descriptor's socket, if that is what it is: `socket:[41]`.
fn socket(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

fn command(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    // What is not UTF-8 takes more room once it is replaced.
    let name = &name[..name.len().min(COMMAND_BYTES_MAX / 3)];
    String::from_utf8_lossy(name).into_owned()
}

//! Limits of VM processes that the kernel enforces: a control group (v2) for each.
//!
//! A VM process needs its guest's memory and some for itself, and a handful of threads. One that takes more has been
//! taken over by its guest, or is broken, and shall hurt itself only. A clone is born in its parent's group and moved to
//! its own before anybody speaks to it; the group was made with the clone's directory, ahead of time, so that what is left is
//! one write. Memory stays charged to where it was touched first: what clones share is their parent's, or the
//! template's, and what they write is their own, so no group holds more than its guest's memory.
//!
//! Processor time is not divided here: see `docs/decisions`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

const MOUNT: &str = "/sys/fs/cgroup";
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// Threads of a VM process, and of clones that it has just made: 32 at once, each born with one.
const THREADS_MAX: u32 = 1024;

/// What a VM process may take beside its guest's memory, in MiB: page tables (of clones it has just made, too), the page
/// cache of its disk, its own code.
const OVERHEAD_MIB: u64 = 384;

/// Where the groups of VMs are.
#[derive(Debug)]
pub(crate) struct Cgroups {
    vms: PathBuf,
}

/// The group of one VM.
#[derive(Debug)]
pub(crate) struct Group {
    dir: PathBuf,
}

/// Why there are none.
#[derive(Debug, Error)]
pub(crate) enum CgroupsError {
    #[error("this process is in no control group of version 2")]
    NoVersion2,
    #[error("the controller {0} is not there for this process")]
    NoController(&'static str),
    #[error("cannot {what}")]
    Refused {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Cgroups {
    /// Below the group that this process is in. Processes and controllers for children exclude each other, except in the
    /// root, so elsewhere the daemon moves down into a group of its own.
    pub(crate) fn open() -> Result<Self, CgroupsError> {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = own.ok_or(CgroupsError::NoVersion2)?;
        // A daemon that was started again by the one it was the child of.
        let own = own.trim_end_matches("daemon").trim_end_matches('/');
        let base = Path::new(MOUNT).join(own);
        Self::below(&base, own.is_empty())
    }

    fn below(base: &Path, is_root: bool) -> Result<Self, CgroupsError> {
        let refused = |what| move |source| CgroupsError::Refused { what, source };
        let there = fs::read_to_string(base.join("cgroup.controllers"));
        let there = there.map_err(|_| CgroupsError::NoVersion2)?;
        for wanted in CONTROLLERS {
            if !there.split_ascii_whitespace().any(|name| name == wanted) {
                return Err(CgroupsError::NoController(wanted));
            }
        }
        if !is_root {
            let daemon = base.join("daemon");
            make(&daemon).map_err(refused("make a group for the daemon"))?;
            let own = std::process::id().to_string();
            fs::write(daemon.join("cgroup.procs"), own).map_err(refused("move the daemon into its group"))?;
        }
        hand_down(base).map_err(refused("hand controllers down"))?;
        let vms = base.join("podflare-vms");
        make(&vms).map_err(refused("make the group of all VMs"))?;
        hand_down(&vms).map_err(refused("hand controllers down to VMs"))?;
        Ok(Self { vms })
    }

    /// A group for a VM that does not run yet. One that was left by a daemon before is used again.
    pub(crate) fn group(&self, name: &str) -> io::Result<Group> {
        let dir = self.vms.join(name);
        make(&dir)?;
        let group = Group { dir };
        group.write("pids.max", &THREADS_MAX.to_string())?;
        Ok(group)
    }
}

impl Group {
    /// Takes a process in, with all its threads.
    pub(crate) fn admit(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// From now on the process may take so much beside its guest's memory.
    pub(crate) fn limit(&self, ram_mib: u32) -> io::Result<()> {
        let bytes = (u64::from(ram_mib) + OVERHEAD_MIB) * 1024 * 1024;
        self.write("memory.max", &bytes.to_string())
    }

    /// Fails while a process is in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.dir.join(file), text)
    }
}

fn hand_down(dir: &Path) -> io::Result<()> {
    let all = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
    fs::write(dir.join("cgroup.subtree_control"), all)
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_where_the_kernel_reads_them() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let groups = Cgroups::below(base.path(), true).unwrap();
        let read = |file: &str| fs::read_to_string(base.path().join(file)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+memory +pids");
        assert_eq!(read("podflare-vms/cgroup.subtree_control"), "+memory +pids");
        let group = groups.group("7").unwrap();
        group.admit(42).unwrap();
        group.limit(1024).unwrap();
        assert_eq!(read("podflare-vms/7/cgroup.procs"), "42");
        assert_eq!(read("podflare-vms/7/pids.max"), "1024");
        assert_eq!(read("podflare-vms/7/memory.max"), (1408_u64 << 20).to_string());
    }

    #[test]
    fn what_is_missing_is_named() {
        let base = tempfile::tempdir().unwrap();
        let nothing = Cgroups::below(base.path(), true).unwrap_err();
        assert!(nothing.to_string().contains("version 2"), "{nothing}");
        fs::write(base.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        let missing = Cgroups::below(base.path(), true).unwrap_err();
        assert!(missing.to_string().contains("memory"), "{missing}");
    }
}

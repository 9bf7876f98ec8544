//! The file systems of the machine other than its root.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use rustix::mount::{MountFlags, mount};

use super::BootError;

struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const DATA: MountFlags = SAFE.union(MountFlags::NOEXEC);

/// Needed to find the root disk; moved into the root file system later.
const EARLY: [Mount; 3] = [
    Mount {
        kind: "proc",
        target: "/proc",
        flags: DATA,
        options: c"",
    },
    Mount {
        kind: "sysfs",
        target: "/sys",
        flags: DATA,
        options: c"",
    },
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID,
        options: c"mode=0755",
    },
];

/// Directories other than root's are on the disk, `/tmp` too: memory is scarcer.
const LATE: [Mount; 4] = [
    Mount {
        kind: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID,
        options: c"gid=5,mode=0620,ptmxmode=0666",
    },
    Mount {
        kind: "tmpfs",
        target: "/dev/shm",
        flags: SAFE,
        options: c"mode=1777",
    },
    Mount {
        kind: "tmpfs",
        target: "/run",
        flags: SAFE,
        options: c"mode=0755",
    },
    Mount {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        flags: DATA,
        options: c"",
    },
];

/// What udev would make; shells and scripts expect them.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Where the early ones are moved from and to.
pub(super) fn early_targets() -> impl Iterator<Item = &'static str> {
    EARLY.iter().map(|mount| mount.target)
}

pub(super) fn early() -> Result<(), BootError> {
    EARLY.iter().try_for_each(Mount::make)
}

pub(super) fn late() -> Result<(), BootError> {
    LATE.iter().try_for_each(Mount::make)?;
    for (to, link) in DEVICE_LINKS {
        match symlink(to, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(BootError::Mount {
                    target: link,
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

impl Mount {
    fn make(&self) -> Result<(), BootError> {
        let make = || {
            fs::create_dir_all(self.target)?;
            match mount(self.kind, self.target, self.kind, self.flags, Some(self.options)) {
                // The kernel mounts devtmpfs by itself when it is built to.
                Err(rustix::io::Errno::BUSY) => Ok(()),
                result => Ok(result?),
            }
        };
        make().map_err(|source| BootError::Mount {
            target: self.target,
            source,
        })
    }
}

//! What the kernel tells this process about itself, under `/proc/self`.
//!
//! Files there belong to whoever opened them, so a clone opens its own; and it may have no path to them, so the directory
//! is held open from before the process was confined.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// `/proc`, held open.
#[derive(Debug)]
pub(crate) struct Proc {
    dir: OwnedFd,
}

impl Proc {
    pub(crate) fn open_self() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            dir: rustix::fs::open("/proc", flags, Mode::empty())?,
        })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.dir.as_raw_fd()
    }

    /// A file about the process that calls this.
    pub(crate) fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = Path::new("self").join(name);
        Ok(rustix::fs::openat(&self.dir, path, flags, Mode::empty())?.into())
    }
}

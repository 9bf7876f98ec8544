//! `podflare-vmm control clone`: makes what clones need, which the daemon does otherwise.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};
use thiserror::Error;
use vmm_proto::{CLONES_MAX, CloneConfig, DESCRIPTORS_PER_CLONE};

/// Bytes the console log of a clone is bounded to.
const LOG_BYTES_MAX: u64 = 1024 * 1024;
const DESCRIPTORS_MAX: usize = 1 + DESCRIPTORS_PER_CLONE * CLONES_MAX as usize;

#[derive(Debug, Args)]
pub(crate) struct CloneArguments {
    /// Directory that gets one directory per clone, named 0, 1 and so on; must not exist
    #[arg(long)]
    into: PathBuf,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(CLONES_MAX)))]
    count: u8,
    /// Leave the clones paused
    #[arg(long)]
    paused: bool,
}

#[derive(Debug, Error)]
#[error("cannot make {}", path.display())]
pub(crate) struct CloneError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl CloneArguments {
    pub(crate) fn config(&self) -> CloneConfig {
        CloneConfig {
            count: self.count,
            run: !self.paused,
            console_log_bytes_max: LOG_BYTES_MAX,
        }
    }

    /// In the order [`CloneConfig`] prescribes.
    pub(crate) fn files(&self) -> Result<Vec<OwnedFd>, CloneError> {
        make(&self.into, |path| fs::create_dir(path))?;
        let mut files = vec![file(&self.into.join("parent.layer"))?];
        for index in 0..self.count {
            let dir = self.into.join(index.to_string());
            make(&dir, |path| fs::create_dir(path))?;
            files.push(make(&dir.join("control.sock"), |path| UnixListener::bind(path))?.into());
            files.push(make(&dir.join("vsock.sock"), |path| UnixListener::bind(path))?.into());
            files.push(file(&dir.join("disk.layer"))?);
            files.push(file(&dir.join("console.log"))?);
            files.push(dead_wire(&dir)?);
        }
        Ok(files)
    }
}

/// Sends the descriptors with as many of the bytes as go along; returns how many did.
pub(crate) fn send(stream: &UnixStream, bytes: &[u8], files: &[OwnedFd]) -> io::Result<usize> {
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::ErrorKind::ArgumentListTooLong.into());
    }
    Ok(rustix::net::sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::empty(),
    )?)
}

/// A wire with nobody at its other end.
fn dead_wire(dir: &Path) -> Result<OwnedFd, CloneError> {
    let flags = SocketFlags::CLOEXEC;
    make(dir, |_| {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(pair.0)
    })
}

fn file(path: &Path) -> Result<OwnedFd, CloneError> {
    make(path, |path| {
        File::options().read(true).write(true).create_new(true).open(path)
    })
    .map(OwnedFd::from)
}

fn make<T>(path: &Path, how: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, CloneError> {
    how(path).map_err(|source| CloneError {
        path: path.to_owned(),
        source,
    })
}

//! SHA-256 of a file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Advice, CWD, FileType, Mode, OFlags, fadvise, fstat, openat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// Bytes read at once; between two pieces `look` is asked whether to go on.
const PIECE_BYTES: usize = 64 * 1024;

/// `None` when there is no regular file at `path`, or it cannot be read. No more is read than the file holds at the
/// beginning, so one that keeps growing comes to an end.
pub(super) fn digest<E>(path: &[u8], mut look: impl FnMut() -> Result<(), E>) -> Result<Option<[u8; 32]>, E> {
    let Ok((file, size)) = open_regular(path) else {
        return Ok(None);
    };
    // What is read here once shall not push out what the user reads often. Best effort.
    let _ = fadvise(&file, 0, None, Advice::NoReuse);
    let mut source = file.take(size);
    let mut piece = vec![0; PIECE_BYTES];
    let mut hash = Sha256::new();
    loop {
        look()?;
        match source.read(&mut piece) {
            Ok(0) => return Ok(Some(hash.finalize().into())),
            Ok(count) => hash.update(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(None),
        }
    }
}

fn open_regular(path: &[u8]) -> Result<(File, u64), Errno> {
    // Only a handle, which opens nothing yet: what is looked at is what is opened then.
    let handle = openat(
        CWD,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let stat = fstat(&handle)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let file = reopen(&handle, OFlags::NOATIME).or_else(|_| reopen(&handle, OFlags::empty()))?;
    Ok((File::from(file), u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Opens what a handle stands for. Not touching the access time is for the file's owner and for root.
fn reopen(handle: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())
}

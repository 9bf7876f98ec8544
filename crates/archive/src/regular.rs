//! Opens regular files for reading, and nothing else.
//!
//! Opening a pipe waits for its writer and opening a device may do anything, so a file is looked at through a handle,
//! which opens nothing, and only what was looked at is opened.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use std::os::unix::ffi::OsStrExt as _;

use crate::error::{FileError, special};

/// The file at `path`, below `directory` if it is relative, and what it was when it was opened. Reading never waits.
///
/// # Errors
/// Directories and special files, links too unless they are followed, and what the operating system says.
pub fn open_regular(
    directory: impl AsFd,
    path: &Path,
    follow_links: bool,
) -> Result<(File, Stat), FileError> {
    let bytes = path.as_os_str().as_bytes();
    let failed = |error| FileError::system("open", bytes, error);
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !follow_links);
    let handle = openat(directory, path, flags, Mode::empty()).map_err(failed)?;
    let stat = fstat(&handle).map_err(failed)?;
    let path = crate::shown(bytes);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(FileError::IsDirectory { path }),
        kind => {
            let what = special(kind);
            return Err(FileError::Special { path, what });
        }
    }
    let same = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let open = |more| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | more;
        openat(CWD, same.as_str(), flags, Mode::empty())
    };
    // Not touching the access time is for the file's owner and for root.
    let file = open(OFlags::NOATIME)
        .or_else(|_| open(OFlags::empty()))
        .map_err(failed)?;
    Ok((File::from(file), stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_links_only_when_asked() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("file"), "content").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let open = |name: &str, follow| open_regular(CWD, &at(name), follow);
        assert_eq!(open("link", true).unwrap().1.st_size, 7);
        assert!(matches!(
            open("link", false),
            Err(FileError::Special {
                what: "a symbolic link",
                ..
            })
        ));
        assert!(matches!(
            open("pipe", true),
            Err(FileError::Special { what: "a pipe", .. })
        ));
        assert!(matches!(open("", true), Err(FileError::IsDirectory { .. })));
        assert!(open("none", true).unwrap_err().errno() == Some(rustix::io::Errno::NOENT));
    }
}

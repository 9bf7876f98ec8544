//! What a file is, and making a directory.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_proto::EntryKind;
use agent_proto::files::FileStat;
use archive::{FileError, make_directories, remove_directories};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat, chmodat, mkdirat, readlinkat, statat};
use rustix::io::Errno;
use std::os::fd::AsFd;

use super::problem::Problem;
use super::walk::nanoseconds;

/// Permissions of a directory that is made without any asked for.
const DIRECTORY_MODE: u32 = 0o755;

pub(super) fn stat(path: &Path, follow: bool) -> Result<FileStat, Problem> {
    let mut flags = AtFlags::empty();
    flags.set(AtFlags::SYMLINK_NOFOLLOW, !follow);
    let stat = statat(CWD, path, flags).map_err(|error| failed("look at", path, error))?;
    Ok(facts_with_target(CWD, path, &stat))
}

/// Leaves a directory that is there already as it is.
pub(super) fn make_directory(path: &Path, mode: Option<u32>, parents: bool) -> Result<FileStat, Problem> {
    let made = match path.parent() {
        Some(above) if parents => make_directories(above)?,
        _ => Vec::new(),
    };
    let mode = Mode::from_raw_mode(mode.unwrap_or(DIRECTORY_MODE));
    let done = match mkdirat(CWD, path, mode) {
        // The mode is given afterwards: the process's umask takes some of it away.
        Ok(()) => chmodat(CWD, path, mode, AtFlags::empty()),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    };
    let found = done
        .map_err(|error| failed("make the directory", path, error))
        .and_then(|()| stat(path, true));
    let problem = match found {
        Ok(found) if found.kind == EntryKind::Directory => return Ok(found),
        Ok(_) => FileError::NotDirectory {
            path: archive::shown(path.as_os_str().as_bytes()),
        }
        .into(),
        Err(problem) => problem,
    };
    remove_directories(&made);
    Err(problem)
}

pub(super) fn facts(stat: &Stat) -> FileStat {
    FileStat {
        kind: kind_of(stat),
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        inode: stat.st_ino,
        target: None,
    }
}

/// The same, and where it leads if it is a link.
pub(super) fn facts_with_target(directory: impl AsFd, name: impl rustix::path::Arg, stat: &Stat) -> FileStat {
    let mut facts = facts(stat);
    if facts.kind == EntryKind::Symlink {
        facts.target = readlinkat(directory, name, Vec::new())
            .ok()
            .map(std::ffi::CString::into_bytes);
    }
    facts
}

pub(super) fn kind_of(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

pub(super) fn failed(doing: &'static str, path: &Path, error: Errno) -> Problem {
    FileError::system(doing, path.as_os_str().as_bytes(), error).into()
}

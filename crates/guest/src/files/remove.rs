//! Removes files and trees. Links are removed, never followed.
//!
//! A tree is descended by descriptors: two are open at a time, and what the way up leads to is checked to be what the way
//! down came from. So moving directories about meanwhile cannot make it remove anything else, and no depth is too deep.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_proto::files::FileProblem;
use archive::{FileError, Place};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::problem::Problem;
use super::stat::failed;
use crate::connection::ConnectionError;

/// Files between two looks at the connection.
const LOOK_EVERY: u32 = 64;

/// A directory on the way down: what it is in the one above it.
struct Level {
    name: CString,
    above: (u64, u64),
}

/// Removes a file, an empty directory, or with `recursive` a directory with all that is below it; `look` is asked
/// every now and then whether to go on.
pub(super) fn remove(
    path: &Path,
    recursive: bool,
    mut look: impl FnMut() -> Result<(), ConnectionError>,
) -> Result<(), Problem> {
    let bytes = path.as_os_str().as_bytes();
    // `link/` would be what the link leads to: the link itself is meant.
    let end = bytes
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |last| last + 1);
    let trimmed = Path::new(std::ffi::OsStr::from_bytes(&bytes[..end]));
    if trimmed.file_name().is_none() || trimmed.as_os_str().as_bytes().ends_with(b"/.") {
        let message = format!("{} cannot be removed", archive::shown(bytes));
        return Err(Problem::Refused(FileProblem::NotPermitted, message));
    }
    let place = Place::find(trimmed, false)?;
    let name = CString::new(place.name.as_bytes()).map_err(|_| failed("remove", path, Errno::INVAL))?;
    let stat = place
        .stat()?
        .ok_or_else(|| failed("remove", path, Errno::NOENT))?;
    if !is_directory(&stat) {
        return unlinkat(&place.directory, &name, AtFlags::empty())
            .map_err(|error| failed("remove", path, error));
    }
    match unlinkat(&place.directory, &name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) if recursive => {}
        done => return done.map_err(|error| failed("remove the directory", path, error)),
    }
    empty(&place.directory, &name, path, &mut look)?;
    unlinkat(&place.directory, &name, AtFlags::REMOVEDIR)
        .map_err(|error| failed("remove the directory", path, error))
}

/// Removes everything in a directory.
fn empty(
    inside: &OwnedFd,
    name: &CString,
    path: &Path,
    look: &mut impl FnMut() -> Result<(), ConnectionError>,
) -> Result<(), Problem> {
    let mut current = open(inside, name).map_err(|error| failed("open the directory", path, error))?;
    let device = fstat(&current)
        .map_err(|error| failed("look at", path, error))?
        .st_dev;
    let mut levels: Vec<Level> = Vec::new();
    let mut removed = 0_u32;
    loop {
        let failed_at = |doing, name: &CString, error| at(path, &levels, name, doing, error);
        let entries = Dir::read_from(&current).map_err(|error| failed("read the directory", path, error))?;
        let mut deeper = None;
        for entry in entries {
            let entry = entry.map_err(|error| failed("read the directory", path, error))?;
            let name = entry.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            removed = removed.wrapping_add(1);
            if removed.is_multiple_of(LOOK_EVERY) {
                look()?;
            }
            let is_directory = match entry.file_type() {
                FileType::Unknown => {
                    statat(&current, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_directory(&stat))
                }
                kind => kind == FileType::Directory,
            };
            let flags = if is_directory {
                AtFlags::REMOVEDIR
            } else {
                AtFlags::empty()
            };
            match unlinkat(&current, &name, flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY) if is_directory => {
                    deeper = Some(name);
                    break;
                }
                Err(error) => return Err(failed_at("remove", &name, error)),
            }
        }
        if let Some(name) = deeper {
            let next = open(&current, &name).map_err(|error| failed_at("open", &name, error))?;
            let stat = fstat(&next).map_err(|error| failed_at("look at", &name, error))?;
            if stat.st_dev != device {
                return Err(failed_at("remove what is mounted at", &name, Errno::BUSY));
            }
            let above = identity(&current).map_err(|error| failed_at("look at", &name, error))?;
            levels.push(Level { name, above });
            current = next;
            continue;
        }
        // All of this one is gone.
        let Some(level) = levels.pop() else { return Ok(()) };
        let failed_at = |error| at(path, &levels, &level.name, "remove", error);
        let above = open(&current, c"..").map_err(failed_at)?;
        if identity(&above).map_err(failed_at)? != level.above {
            return Err(failed_at(Errno::BUSY));
        }
        match unlinkat(&above, &level.name, AtFlags::REMOVEDIR) {
            // Somebody has put something there again: it is met once more.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
            Err(error) => return Err(failed_at(error)),
        }
        current = above;
    }
}

fn open(inside: &OwnedFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(inside, name, flags, Mode::empty())
}

fn identity(directory: &OwnedFd) -> Result<(u64, u64), Errno> {
    fstat(directory).map(|stat| (stat.st_dev, stat.st_ino))
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn at(path: &Path, levels: &[Level], name: &CString, doing: &'static str, error: Errno) -> Problem {
    let mut whole = path.as_os_str().as_bytes().to_vec();
    for name in levels.iter().map(|level| &level.name).chain([name]) {
        whole.push(b'/');
        whole.extend_from_slice(name.to_bytes());
    }
    FileError::system(doing, &whole, error).into()
}

//! The directory an archive is unpacked in. Nothing here leads out of it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, chmodat, linkat, mkdirat, openat, openat2, renameat,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{FileError, shown};
use crate::place::Place;
use crate::staged::{Staged, named};

/// Times that the kernel may say that somebody has moved what a path leads through.
const RACES_MAX: u32 = 16;

/// Permissions of directories that an archive implies.
const MODE: u32 = 0o755;

#[derive(Debug)]
pub(super) struct Target {
    root: OwnedFd,
    /// Where the last entry was put: the next one is most often there, too.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Target {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty());
        let bytes = path.as_os_str().as_bytes();
        Ok(Self {
            root: root.map_err(|error| match error {
                Errno::NOTDIR => FileError::NotDirectory { path: shown(bytes) },
                error => FileError::system("open", bytes, error),
            })?,
            last: None,
        })
    }

    /// Opens a directory, making it and those above it as needed. `mode` is for the innermost, if it is new.
    pub(super) fn directory(&mut self, path: &Path, mode: Option<u32>) -> Result<OwnedFd, FileError> {
        let failed = |error| match error {
            Errno::NOTDIR => FileError::NotDirectory {
                path: shown(path.as_os_str().as_bytes()),
            },
            error => FileError::system("open", path.as_os_str().as_bytes(), error),
        };
        match self.enter(path) {
            Err(Errno::NOENT) => {}
            entered => return entered.map_err(failed),
        }
        let (mut inside, mut so_far) = (self.enter(Path::new("")).map_err(failed)?, PathBuf::new());
        for part in path {
            so_far.push(part);
            inside = match self.enter(&so_far) {
                Err(Errno::NOENT) => {
                    let mode = mode.filter(|_| so_far == path).unwrap_or(MODE);
                    make(&inside, part, mode).and_then(|()| self.enter(&so_far))
                }
                entered => entered,
            }
            .map_err(failed)?;
        }
        Ok(inside)
    }

    pub(super) fn file(&mut self, path: &Path) -> Result<Staged, FileError> {
        Staged::at(self.place(path)?)
    }

    pub(super) fn symlink(&mut self, path: &Path, to: &[u8]) -> Result<(), FileError> {
        let place = self.place(path)?;
        put(&place, |name| {
            symlinkat(OsStr::from_bytes(to), &place.directory, name)
        })
    }

    /// `to` is below the target as well. A link that it is itself linked, not followed.
    pub(super) fn hard_link(&mut self, path: &Path, to: &Path) -> Result<(), FileError> {
        let failed = |error| FileError::system("link to", to.as_os_str().as_bytes(), error);
        let old = self.enter(to.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        let old_name = to.file_name().ok_or(Errno::INVAL).map_err(failed)?;
        let place = self.place(path)?;
        put(&place, |name| {
            linkat(&old, old_name, &place.directory, name, AtFlags::empty())
        })
    }

    fn place(&mut self, path: &Path) -> Result<Place, FileError> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        let known = self.last.take().filter(|(last, _)| last == above);
        let directory = match known {
            Some((_, directory)) => directory,
            None => self.directory(above, None)?,
        };
        let kept = directory
            .try_clone()
            .map_err(|error| FileError::system("open", above.as_os_str().as_bytes(), error))?;
        self.last = Some((above.to_owned(), kept));
        Ok(Place::within(directory, name, path.as_os_str().as_bytes()))
    }

    /// [`Errno::XDEV`] is what the kernel says to a path that leads out.
    fn enter(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES_MAX {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// The mode is given afterwards: the process's umask takes some of it away.
fn make(inside: &OwnedFd, name: &OsStr, mode: u32) -> Result<(), Errno> {
    mkdirat(inside, name, Mode::RWXU)?;
    chmodat(inside, name, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Makes something under another name first and then puts it in the place of what is there, which is no directory.
fn put(place: &Place, make: impl FnMut(&str) -> Result<(), Errno>) -> Result<(), FileError> {
    let failed = |error| place.failed("put a link at", error);
    if place
        .stat()?
        .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    {
        return Err(FileError::IsDirectory {
            path: place.path.clone(),
        });
    }
    let ((), name) = named(make).map_err(failed)?;
    let name = name.as_str();
    let renamed = renameat(&place.directory, name, &place.directory, place.name.as_os_str());
    // Renaming a file to another name of its own does nothing, so the name may still be there.
    if statat(&place.directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        let _ = unlinkat(&place.directory, name, AtFlags::empty());
    }
    renamed.map_err(failed)
}

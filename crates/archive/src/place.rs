//! Where a file is, or will be: a directory that is held open, and a name in it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::error::{FileError, shown};

/// Links followed on the way to a file; Linux has the same bound.
const LINKS_MAX: u32 = 40;

#[derive(Debug)]
pub struct Place {
    pub directory: OwnedFd,
    pub name: OsString,
    /// For people.
    pub(crate) path: String,
}

impl Place {
    /// The place that `path` names. With `follow_links` a link there leads on to where its target is or would be.
    ///
    /// # Errors
    /// [`FileError::IsDirectory`] when the path can only name a directory; or when its directory cannot be opened.
    pub fn find(path: &Path, follow_links: bool) -> Result<Self, FileError> {
        Self::find_from(CWD, path, shown(path.as_os_str().as_bytes()), follow_links)
    }

    fn find_from(base: impl AsFd, path: &Path, shown: String, follow_links: bool) -> Result<Self, FileError> {
        let mut place = step(base, path, &shown)?;
        for _ in 0..LINKS_MAX {
            match place.stat()? {
                Some(stat) if follow_links && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    let target = readlinkat(&place.directory, place.name.as_os_str(), Vec::new())
                        .map_err(|error| place.failed("follow the link", error))?;
                    let target = OsString::from_vec(target.into_bytes());
                    place = step(&place.directory, Path::new(&target), &shown)?;
                }
                _ => return Ok(place),
            }
        }
        Err(place.failed("follow the links at", Errno::LOOP))
    }

    /// A name in a directory.
    #[must_use]
    pub(crate) fn within(directory: OwnedFd, name: &OsStr, path: &[u8]) -> Self {
        Self {
            directory,
            name: name.to_owned(),
            path: shown(path),
        }
    }

    /// What is there, not followed if it is a link.
    ///
    /// # Errors
    /// When that cannot be known.
    pub fn stat(&self) -> Result<Option<Stat>, FileError> {
        match statat(&self.directory, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed("look at", error)),
        }
    }

    pub(crate) fn failed(&self, doing: &'static str, error: impl Into<std::io::Error>) -> FileError {
        FileError::System {
            doing,
            path: self.path.clone(),
            source: error.into(),
        }
    }
}

/// Opens the directory of a path.
fn step(base: impl AsFd, path: &Path, shown: &str) -> Result<Place, FileError> {
    let bytes = path.as_os_str().as_bytes();
    let names_a_directory = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
    let Some(name) = path.file_name().filter(|_| !names_a_directory) else {
        return Err(FileError::IsDirectory {
            path: shown.to_owned(),
        });
    };
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(base, above, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOTDIR => FileError::NotDirectory {
            path: crate::shown(above.as_os_str().as_bytes()),
        },
        error => FileError::system("open the directory of", shown.as_bytes(), error),
    })?;
    Ok(Place {
        directory,
        name: name.to_owned(),
        path: shown.to_owned(),
    })
}

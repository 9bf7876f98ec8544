//! New content for a file, which takes its place all at once or never.
//!
//! It is written to a file without a name (`O_TMPFILE`), so whatever happens, nothing is left behind, and nobody comes
//! across it. Only to replace a file it needs a name for a moment: Linux can give a name to a file, and a file's place to
//! another name, but not both in one call. Where a file system has no files without names it has that name from the
//! beginning, and loses it when this is dropped.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timestamps, Uid, fchmod, fchown, fstat,
    fstatvfs, fsync, futimens, linkat, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::directories::{make_directories, remove_directories};
use crate::error::{FileError, special};
use crate::is_made_up;
use crate::place::Place;

/// What the names of files on their way begin with.
pub const TEMPORARY_PREFIX: &str = ".podflare-part-";

/// Permissions of a new file.
const MODE: u32 = 0o644;

/// Times that somebody else may put a file where there was none just before.
const RACES_MAX: u32 = 16;

#[derive(Debug)]
pub struct Staged {
    file: File,
    place: Place,
    /// Its name for now, if it has one.
    name: Option<String>,
    /// Directories made for it.
    made: Vec<PathBuf>,
    mode: Option<u32>,
    times: Option<Timestamps>,
    sync: bool,
}

impl Staged {
    /// Begins new content for the file at `path`; a link there stays, and what it leads to is replaced. With `parents`,
    /// missing directories are made, and taken back unless it is committed.
    ///
    /// # Errors
    /// What is there is a directory or a special file, or nothing can be written there.
    pub fn begin(path: &Path, parents: bool) -> Result<Self, FileError> {
        let found = Place::find(path, true);
        let (place, made) = match found {
            Err(error) if parents && error.errno() == Some(Errno::NOENT) => {
                let made = make_directories(path.parent().unwrap_or(Path::new("/")))?;
                let found = Place::find(path, true).inspect_err(|_| remove_directories(&made));
                (found?, made)
            }
            found => (found?, Vec::new()),
        };
        match Self::at(place) {
            Ok(mut staged) => {
                staged.made = made;
                Ok(staged)
            }
            Err(error) => {
                remove_directories(&made);
                Err(error)
            }
        }
    }

    /// Begins new content in an open directory; a link there is replaced.
    pub(crate) fn at(place: Place) -> Result<Self, FileError> {
        replaceable(&place, place.stat()?.as_ref())?;
        if is_made_up(&place.directory) {
            let (path, what) = (place.path.clone(), "in a file system that the kernel makes up");
            return Err(FileError::Special { path, what });
        }
        let (file, name) = create(&place).map_err(|error| place.failed("write", error))?;
        Ok(Self {
            file,
            place,
            name,
            made: Vec::new(),
            mode: None,
            times: None,
            sync: false,
        })
    }

    #[must_use]
    pub fn with_mode(mut self, mode: Option<u32>) -> Self {
        self.mode = mode;
        self
    }

    #[must_use]
    pub(crate) fn with_times(mut self, times: Timestamps) -> Self {
        self.times = Some(times);
        self
    }

    /// Whether it is on the disk when it is committed.
    #[must_use]
    pub fn with_sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Fails when there is no room for so many bytes, before any of them is written.
    ///
    /// # Errors
    /// [`Errno::NOSPC`].
    pub fn need_room(&self, bytes: u64) -> Result<(), FileError> {
        let room = fstatvfs(&self.place.directory)
            .map_or(u64::MAX, |system| system.f_bfree.saturating_mul(system.f_frsize));
        if bytes > room {
            return Err(self.place.failed("write", Errno::NOSPC));
        }
        Ok(())
    }

    /// What is in its place now.
    ///
    /// # Errors
    /// When that cannot be known.
    pub fn existing(&self) -> Result<Option<Stat>, FileError> {
        self.place.stat()
    }

    /// # Errors
    /// [`Errno::NOSPC`] among others.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| self.place.failed("write", error))
    }

    /// Puts the content in its place, if what is there then `is_expected`. What is replaced gives its owner and, unless
    /// another was asked for, its mode.
    ///
    /// # Errors
    /// [`FileError::NotAsExpected`], or what the operating system says; the old content stays then.
    pub fn commit(mut self, is_expected: impl Fn(Option<&Stat>) -> bool) -> Result<Stat, FileError> {
        for _ in 0..RACES_MAX {
            let existing = self.place.stat()?;
            if !is_expected(existing.as_ref()) {
                return Err(FileError::NotAsExpected {
                    path: self.place.path.clone(),
                });
            }
            replaceable(&self.place, existing.as_ref())?;
            let replaced = existing.filter(|stat| is(stat, FileType::RegularFile));
            self.finish_file(replaced.as_ref())
                .map_err(|error| self.place.failed("write", error))?;
            match self.put(existing.is_some()) {
                Ok(()) => {
                    self.made.clear();
                    return self.look_back();
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.place.failed("put the content in the place of", error)),
            }
        }
        Err(self.place.failed("put the content in the place of", Errno::EXIST))
    }

    fn finish_file(&self, replaced: Option<&Stat>) -> Result<(), Errno> {
        if let Some(old) = replaced {
            // Only root may give files away; anybody else's file becomes his own.
            let _ = fchown(
                &self.file,
                Some(Uid::from_raw(old.st_uid)),
                Some(Gid::from_raw(old.st_gid)),
            );
        }
        let kept = replaced.map_or(MODE, |old| old.st_mode & 0o7777);
        fchmod(&self.file, Mode::from_raw_mode(self.mode.unwrap_or(kept)))?;
        if let Some(times) = &self.times {
            futimens(&self.file, times)?;
        }
        if self.sync {
            fsync(&self.file)?;
        }
        Ok(())
    }

    fn put(&mut self, replace: bool) -> Result<(), Errno> {
        let Self { place, name, .. } = self;
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let link = |name: &Path| linkat(CWD, own.as_str(), &place.directory, name, AtFlags::SYMLINK_FOLLOW);
        if name.is_none() && !replace {
            return link(Path::new(&place.name));
        }
        if name.is_none() {
            *name = Some(named(|name| link(Path::new(name)))?.1);
        }
        let mut flags = RenameFlags::empty();
        flags.set(RenameFlags::NOREPLACE, !replace);
        let from = name.as_deref().unwrap_or_default();
        renameat_with(
            &place.directory,
            from,
            &place.directory,
            place.name.as_os_str(),
            flags,
        )?;
        *name = None;
        Ok(())
    }

    fn look_back(&self) -> Result<Stat, FileError> {
        let finish = || {
            if self.sync {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                fsync(openat(&self.place.directory, ".", flags, Mode::empty())?)?;
            }
            fstat(&self.file)
        };
        finish().map_err(|error| self.place.failed("keep", error))
    }
}

impl AsFd for Staged {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = unlinkat(&self.place.directory, name.as_str(), AtFlags::empty());
        }
        remove_directories(&self.made);
    }
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// A link counts as a file: whoever wants to follow it has done so.
fn replaceable(place: &Place, existing: Option<&Stat>) -> Result<(), FileError> {
    let path = || place.path.clone();
    match existing.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        None | Some(FileType::RegularFile | FileType::Symlink) => Ok(()),
        Some(FileType::Directory) => Err(FileError::IsDirectory { path: path() }),
        Some(kind) => Err(FileError::Special {
            path: path(),
            what: special(kind),
        }),
    }
}

fn create(place: &Place) -> Result<(File, Option<String>), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match openat(&place.directory, ".", flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok((file.into(), None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let (file, name) = named(|name| openat(&place.directory, name, flags, mode))?;
            Ok((file.into(), Some(name)))
        }
        Err(error) => Err(error),
    }
}

/// Does something under a name that nobody has.
pub(crate) fn named<T>(mut work: impl FnMut(&str) -> Result<T, Errno>) -> Result<(T, String), Errno> {
    for _ in 0..RACES_MAX {
        let name = format!(
            "{TEMPORARY_PREFIX}{:016x}",
            RandomState::new().build_hasher().finish()
        );
        match work(&name) {
            Ok(done) => return Ok((done, name)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

#[cfg(test)]
#[path = "staged_tests.rs"]
mod tests;

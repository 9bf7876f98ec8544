//! Everything below a directory, in order.
//!
//! A directory is read whole, with the metadata of its entries, and closed again before any of them is entered: one
//! descriptor is open at a time, however deep it goes. Directories are entered by path, so what lies deeper than a path
//! can name (4096 bytes) is left out. So is what disappears meanwhile, and what this process may not read.

use std::collections::HashSet;

use agent_proto::{Entry, EntryKind};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use thiserror::Error;

/// Memory for entries that are read and not yet passed on, in bytes. A directory of half a million files fits.
const HELD_MAX: usize = 64 << 20;

/// Why there is no inventory.
#[derive(Debug, Error)]
pub(super) enum WalkError {
    #[error("{path} has more files than fit into {} MiB of memory", HELD_MAX >> 20)]
    TooLarge { path: String },
}

/// Paths that are left out.
#[derive(Debug)]
pub(super) struct Skip(HashSet<Vec<u8>>);

#[derive(Debug)]
pub(super) struct Walk<'a> {
    skip: &'a Skip,
    /// The root, until it has been passed on.
    root: Option<Vec<u8>>,
    device: u64,
    /// From the root to the directory whose entries are being passed on.
    levels: Vec<Level>,
    /// Path of the last entry; its beginnings are the paths of the levels.
    path: Vec<u8>,
    /// Bytes of memory that the levels take.
    held: usize,
}

#[derive(Debug)]
struct Level {
    path_len: usize,
    names: Vec<u8>,
    /// In reverse order, so that the next one is at the end.
    children: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    name_start: usize,
    name_len: usize,
    facts: Facts,
}

/// An entry without its path.
#[derive(Clone, Copy, Debug)]
struct Facts {
    kind: EntryKind,
    mode: u32,
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    inode: u64,
}

impl Skip {
    pub(super) fn new(paths: &[String]) -> Self {
        Self(paths.iter().map(|path| without_end(path).to_vec()).collect())
    }
}

impl<'a> Walk<'a> {
    /// `root` is absolute. If it is not there, there are no entries.
    pub(super) fn new(root: &str, skip: &'a Skip) -> Self {
        Self {
            skip,
            root: Some(without_end(root).to_vec()),
            device: 0,
            levels: Vec::new(),
            path: Vec::new(),
            held: 0,
        }
    }

    fn begin(&mut self, root: Vec<u8>) -> Result<Option<Entry>, WalkError> {
        self.path = root;
        // The root directory's path is empty while others are made from it.
        let path: &[u8] = if self.path.is_empty() { b"/" } else { &self.path };
        if self.skip.0.contains(&self.path) {
            return Ok(None);
        }
        let Ok(stat) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(None);
        };
        self.device = stat.st_dev;
        let entry = Facts::of(&stat).entry(path);
        if entry.kind == EntryKind::Directory {
            self.enter()?;
        }
        Ok(Some(entry))
    }

    /// The next one in the innermost directory, or outside it when that has no more.
    fn proceed(&mut self) -> Result<Option<Entry>, WalkError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(child) = level.children.pop() else {
                self.held -= level.held();
                self.levels.pop();
                continue;
            };
            self.held -= size_of::<Child>();
            self.path.truncate(level.path_len);
            self.path.push(b'/');
            self.path
                .extend_from_slice(&level.names[child.name_start..][..child.name_len]);
            if self.skip.0.contains(&self.path) {
                continue;
            }
            let entry = child.facts.entry(&self.path);
            if entry.kind == EntryKind::Directory {
                self.enter()?;
            }
            return Ok(Some(entry));
        }
        Ok(None)
    }

    /// Reads the directory at the current path, if it still is one and on this file system.
    fn enter(&mut self) -> Result<(), WalkError> {
        let path: &[u8] = if self.path.is_empty() { b"/" } else { &self.path };
        let room = HELD_MAX.saturating_sub(self.held);
        match Level::read(path, self.device, room) {
            Ok(Some(mut level)) => {
                level.path_len = self.path.len();
                self.held += level.held();
                self.levels.push(level);
                Ok(())
            }
            Ok(None) => Err(WalkError::TooLarge {
                path: String::from_utf8_lossy(path).into_owned(),
            }),
            Err(_) => Ok(()),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.root.take() {
            Some(root) => self.begin(root),
            None => self.proceed(),
        };
        next.transpose()
    }
}

impl Level {
    fn held(&self) -> usize {
        self.names.len() + self.children.len() * size_of::<Child>()
    }

    /// `None` when it does not fit into so many bytes.
    fn read(path: &[u8], device: u64, room: usize) -> Result<Option<Self>, Errno> {
        let open = |flags| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
            openat(CWD, path, flags, Mode::empty())
        };
        // Not touching the access time is for the directory's owner and for root.
        let directory = open(OFlags::NOATIME).or_else(|_| open(OFlags::empty()))?;
        let mut level = Self {
            path_len: 0,
            names: Vec::new(),
            children: Vec::new(),
        };
        if fstat(&directory)?.st_dev != device {
            return Ok(Some(level));
        }
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if stat.st_dev != device {
                continue;
            }
            level.children.push(Child {
                name_start: level.names.len(),
                name_len: name.to_bytes().len(),
                facts: Facts::of(&stat),
            });
            level.names.extend_from_slice(name.to_bytes());
            if level.held() > room {
                return Ok(None);
            }
        }
        let Self { names, children, .. } = &mut level;
        let name = |child: &Child| &names[child.name_start..][..child.name_len];
        children.sort_unstable_by(|one, other| name(other).cmp(name(one)));
        Ok(Some(level))
    }
}

impl Facts {
    fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            _ => EntryKind::Other,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
        }
    }

    fn entry(self, path: &[u8]) -> Entry {
        let Self {
            kind,
            mode,
            size,
            mtime_ns,
            ctime_ns,
            inode,
        } = self;
        Entry {
            path: path.to_vec(),
            kind,
            mode,
            size,
            mtime_ns,
            ctime_ns,
            inode,
        }
    }
}

/// A file may carry any time its user likes; beyond the years 1677 to 2262 it is the nearest of these.
pub(super) fn nanoseconds(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds.try_into().unwrap_or(0))
}

/// A path without slashes at its end; the root directory's is empty.
fn without_end(path: &str) -> &[u8] {
    path.trim_end_matches('/').as_bytes()
}

//! Which directories are watched, and what an event of one of them means.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_proto::files::FileProblem;
use archive::{FileError, TEMPORARY_PREFIX};
use rustix::fs::inotify::{CreateFlags, ReadFlags, WatchFlags, add_watch, init, remove_watch};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::super::problem::Problem;
use super::batch::Batch;

/// Directories watched at once; the kernel keeps a kibibyte for each.
const WATCHES_MAX: usize = 8192;

const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// An event as the kernel tells it.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) watch: i32,
    pub(super) flags: ReadFlags,
    pub(super) cookie: u32,
    pub(super) name: Option<Vec<u8>>,
}

/// Something has left its place; where to, the next event tells, if it stayed in the tree.
#[derive(Debug)]
struct HalfMove {
    cookie: u32,
    path: Vec<u8>,
    directory: bool,
    /// One of our own files on their way.
    hidden: bool,
}

#[derive(Debug)]
pub(super) struct Watches {
    pub(super) batch: Batch,
    inotify: OwnedFd,
    root: Vec<u8>,
    root_watch: i32,
    /// The only name of interest, when one file is watched: its directory is what has to be.
    only: Option<Vec<u8>>,
    recursive: bool,
    paths: HashMap<i32, Vec<u8>>,
    half: Option<HalfMove>,
    over: bool,
}

impl Watches {
    pub(super) fn begin(path: &Path, recursive: bool) -> Result<Self, Problem> {
        let bytes = path.as_os_str().as_bytes();
        let failed = |error| FileError::system("watch", bytes, error);
        let stat = statat(CWD, path, AtFlags::empty()).map_err(failed)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let (root, only) = match (is_directory, path.parent(), path.file_name()) {
            (false, Some(above), Some(name)) => (above, Some(name.as_bytes().to_vec())),
            _ => (path, None),
        };
        let end = root.as_os_str().as_bytes().iter().rposition(|byte| *byte != b'/');
        let mut watches = Self {
            batch: Batch::default(),
            inotify: init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(failed)?,
            root: root.as_os_str().as_bytes()[..end.map_or(0, |end| end + 1)].to_vec(),
            root_watch: -1,
            recursive: recursive && only.is_none(),
            only,
            paths: HashMap::new(),
            half: None,
            over: false,
        };
        watches.root_watch = add_watch(&watches.inotify, root, EVENTS).map_err(failed)?;
        let root = watches.root.clone();
        watches.paths.insert(watches.root_watch, root.clone());
        if watches.recursive && !watches.add_below(&root, false) {
            let message = format!("more than {WATCHES_MAX} directories cannot be watched at once");
            return Err(Problem::Refused(FileProblem::TooMany, message));
        }
        Ok(watches)
    }

    /// What is watched is not there any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn has_half_a_move(&self) -> bool {
        self.half.is_some()
    }

    /// The other half did not come: it has left the tree.
    pub(super) fn end_half_a_move(&mut self) {
        let Some(half) = self.half.take() else { return };
        if !half.hidden {
            self.batch.deleted(&half.path, half.directory);
        }
        if half.directory {
            self.forget_below(&half.path);
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        let flags = event.flags;
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            let root = self.root.clone();
            self.batch.overflow(&root);
            return;
        }
        let is_second_half = flags.contains(ReadFlags::MOVED_TO)
            && self.half.as_ref().is_some_and(|half| half.cookie == event.cookie);
        if !is_second_half {
            self.end_half_a_move();
        }
        let Some(directory) = self.paths.get(&event.watch).cloned() else {
            return;
        };
        let Some(name) = event.name else {
            self.take_own(event.watch, flags);
            return;
        };
        if self.only.as_ref().is_some_and(|only| *only != name) && !is_hidden(&name) {
            // A move to or from the name of interest is told as its coming or going.
            if !is_second_half {
                return;
            }
        }
        let mut path = directory;
        path.push(b'/');
        path.extend_from_slice(&name);
        self.take_named(&path, is_hidden(&name), event.cookie, flags);
    }

    /// About a directory that is watched, itself.
    fn take_own(&mut self, watch: i32, flags: ReadFlags) {
        let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        if watch == self.root_watch && flags.intersects(gone) && !self.over {
            let root = self.root.clone();
            self.batch.deleted(&root, true);
            self.over = true;
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.paths.remove(&watch);
        }
    }

    fn take_named(&mut self, path: &[u8], hidden: bool, cookie: u32, flags: ReadFlags) {
        let directory = flags.contains(ReadFlags::ISDIR);
        if flags.contains(ReadFlags::MOVED_FROM) {
            self.half = Some(HalfMove {
                cookie,
                path: path.to_vec(),
                directory,
                hidden,
            });
        } else if flags.contains(ReadFlags::MOVED_TO) {
            match self.half.take() {
                Some(half) if half.hidden => self.batch.modified(path, directory),
                Some(half) => {
                    self.tell_move(&half.path, path, directory);
                    if directory {
                        self.rename_below(&half.path, path);
                    }
                }
                None => self.appeared(path, directory),
            }
        } else if hidden {
        } else if flags.contains(ReadFlags::CREATE) {
            self.appeared(path, directory);
        } else if flags.contains(ReadFlags::DELETE) {
            self.batch.deleted(path, directory);
        } else {
            self.batch.modified(path, directory);
        }
    }

    fn tell_move(&mut self, from: &[u8], to: &[u8], directory: bool) {
        let interest = |path: &[u8]| {
            let name = path.rsplit(|byte| *byte == b'/').next();
            self.only.is_none() || self.only.as_deref() == name
        };
        match (interest(from), interest(to)) {
            (true, true) => self.batch.moved(from, to, directory),
            (true, false) => self.batch.deleted(from, directory),
            (false, true) => self.batch.created(to, directory),
            (false, false) => {}
        }
    }

    fn appeared(&mut self, path: &[u8], directory: bool) {
        self.batch.created(path, directory);
        if directory && self.recursive {
            let flags = EVENTS | WatchFlags::DONT_FOLLOW;
            match add_watch(&self.inotify, path, flags) {
                Ok(watch) => {
                    self.paths.insert(watch, path.to_vec());
                    if !self.add_below(path, true) {
                        self.batch.overflow(path);
                    }
                }
                // Gone again; that will be told.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => self.batch.overflow(path),
            }
        }
    }

    /// Watches the directories below one that is watched. With `tell`, what is found has come while nobody watched.
    /// False when there are too many.
    fn add_below(&mut self, path: &[u8], tell: bool) -> bool {
        let mut left = vec![path.to_vec()];
        while let Some(directory) = left.pop() {
            let own: &[u8] = if directory.is_empty() { b"/" } else { &directory };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // The root may be named by a link; below it none is followed.
            let flags = if directory == self.root {
                flags - OFlags::NOFOLLOW
            } else {
                flags
            };
            let Ok(entries) = openat(CWD, own, flags, Mode::empty()).and_then(Dir::new) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") || is_hidden(name) {
                    continue;
                }
                let mut path = directory.clone();
                path.push(b'/');
                path.extend_from_slice(name);
                let is_directory = match entry.file_type() {
                    FileType::Unknown => is_directory(&path),
                    kind => kind == FileType::Directory,
                };
                if tell {
                    self.batch.created(&path, is_directory);
                }
                if !is_directory {
                    continue;
                }
                if self.paths.len() >= WATCHES_MAX {
                    return false;
                }
                match add_watch(&self.inotify, &*path, EVENTS | WatchFlags::DONT_FOLLOW) {
                    Ok(watch) => {
                        self.paths.insert(watch, path.clone());
                        left.push(path);
                    }
                    Err(Errno::NOENT | Errno::NOTDIR) => {}
                    Err(_) => return false,
                }
            }
        }
        true
    }

    fn rename_below(&mut self, from: &[u8], to: &[u8]) {
        for path in self.paths.values_mut() {
            if let Some(rest) = below(path, from) {
                let mut renamed = to.to_vec();
                renamed.extend_from_slice(rest);
                *path = renamed;
            }
        }
    }

    fn forget_below(&mut self, path: &[u8]) {
        let gone: Vec<i32> = self
            .paths
            .iter()
            .filter(|(_, watched)| below(watched, path).is_some())
            .map(|(watch, _)| *watch)
            .collect();
        for watch in gone {
            self.paths.remove(&watch);
            // It may be gone with its directory.
            let _ = remove_watch(&self.inotify, watch);
        }
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// What comes after `directory` in a path that is it or below it.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(directory)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

/// Our own files on their way: those with a name for a moment, and those without one, which the kernel calls by their
/// number.
fn is_hidden(name: &[u8]) -> bool {
    let number = name.strip_prefix(b"#").unwrap_or_default();
    name.starts_with(TEMPORARY_PREFIX.as_bytes())
        || (!number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

fn is_directory(path: &[u8]) -> bool {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

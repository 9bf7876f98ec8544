//! A tree as a tar archive.
//!
//! Entries are relative to the directory and sorted by name. Links are stored, not followed; what is mounted below is
//! not entered; pipes, sockets and devices are left out; hard links become files of their own; owners are not kept.
//! A directory is read whole, names only, before any of it is entered.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use crate::PIECE_BYTES;
use crate::error::{FileError, shown};
use crate::regular::open_regular;

/// Memory for names that are read and not yet packed, in bytes.
const NAMES_BYTES_MAX: usize = 64 << 20;

/// Everything in an archive is in blocks of so many bytes.
const BLOCK_BYTES: usize = 512;

/// What went into an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    pub entries: u64,
    /// Of content.
    pub bytes: u64,
}

struct Packer<W: Write> {
    builder: Builder<W>,
    root: OwnedFd,
    device: u64,
    packed: Packed,
    piece: Vec<u8>,
}

/// Names in one directory that are still to be packed, the next one at the end.
struct Level {
    path_len: usize,
    names: Vec<CString>,
}

/// Writes what is below the directory `path`, or the one file there, as an archive.
///
/// # Errors
/// What cannot be read, and a `sink` that takes no more. What was written until then is no whole archive.
pub fn pack<W: Write>(path: &Path, sink: W) -> Result<Packed, FileError> {
    let bytes = path.as_os_str().as_bytes();
    let stat =
        statat(CWD, path, AtFlags::empty()).map_err(|error| FileError::system("open", bytes, error))?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let (directory, only) = match path.file_name() {
        _ if is_directory => (path, None),
        name => (path.parent().unwrap_or(path), name),
    };
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, directory, flags, Mode::empty())
        .map_err(|error| FileError::system("open", bytes, error))?;
    let mut packer = Packer {
        builder: Builder::new(sink),
        device: stat.st_dev,
        root,
        packed: Packed::default(),
        piece: vec![0; PIECE_BYTES],
    };
    match only {
        // A link that was named is followed: the file it leads to was meant.
        Some(name) => packer.file(name.as_bytes(), true)?,
        None => packer.tree()?,
    }
    let Packer {
        mut builder, packed, ..
    } = packer;
    builder.finish().map_err(FileError::Transfer)?;
    builder.get_mut().flush().map_err(FileError::Transfer)?;
    Ok(packed)
}

impl<W: Write> Packer<W> {
    fn tree(&mut self) -> Result<(), FileError> {
        let mut levels = Vec::new();
        let mut held = 0;
        let mut path = Vec::new();
        self.enter(&path, &mut levels, &mut held)?;
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            held -= cost(&name);
            path.truncate(level.path_len);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            if self.entry(&path)? {
                self.enter(&path, &mut levels, &mut held)?;
            }
        }
        Ok(())
    }

    /// Packs one file of any kind; true when it is a directory to be entered. What is gone meanwhile is left out.
    fn entry(&mut self, path: &[u8]) -> Result<bool, FileError> {
        let stat = match statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(FileError::system("look at", path, error)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let mut header = header(&stat, EntryType::Directory);
                self.append(&mut header, path)?;
                Ok(stat.st_dev == self.device)
            }
            FileType::RegularFile => {
                match self.file(path, false) {
                    Err(error) if error.errno() == Some(Errno::NOENT) => {}
                    done => done?,
                }
                Ok(false)
            }
            FileType::Symlink => {
                let target = match readlinkat(&self.root, path, Vec::new()) {
                    Ok(target) => target,
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(false),
                    Err(error) => return Err(FileError::system("read the link", path, error)),
                };
                let target = std::ffi::OsStr::from_bytes(target.as_bytes());
                let mut header = header(&stat, EntryType::Symlink);
                self.packed.entries += 1;
                let path = std::ffi::OsStr::from_bytes(path);
                let appended = self.builder.append_link(&mut header, path, target);
                appended.map(|()| false).map_err(FileError::Transfer)
            }
            _ => Ok(false),
        }
    }

    fn file(&mut self, path: &[u8], follow_links: bool) -> Result<(), FileError> {
        let name = Path::new(std::ffi::OsStr::from_bytes(path));
        let (file, stat) = open_regular(&self.root, name, follow_links)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut header = header(&stat, EntryType::Regular);
        header.set_size(size);
        self.append(&mut header, path)?;
        self.content(file, size, path)
    }

    /// The header alone: content is written by [`Self::content`], in larger pieces and to the byte.
    fn append(&mut self, header: &mut Header, path: &[u8]) -> Result<(), FileError> {
        self.packed.entries += 1;
        let path = std::ffi::OsStr::from_bytes(path);
        let appended = self.builder.append_data(header, path, io::empty());
        appended.map_err(FileError::Transfer)
    }

    fn content(&mut self, mut file: File, size: u64, path: &[u8]) -> Result<(), FileError> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let count = match file.read(&mut self.piece[..most]) {
                Ok(0) => return Err(FileError::Changed { path: shown(path) }),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(FileError::system("read", path, error)),
            };
            let piece = &self.piece[..count];
            self.builder
                .get_mut()
                .write_all(piece)
                .map_err(FileError::Transfer)?;
            left -= count as u64;
        }
        self.packed.bytes += size;
        let over = usize::try_from(size % BLOCK_BYTES as u64).unwrap_or(0);
        let padding = [0; BLOCK_BYTES];
        let padding = if over == 0 { &[][..] } else { &padding[over..] };
        self.builder
            .get_mut()
            .write_all(padding)
            .map_err(FileError::Transfer)
    }

    /// Reads a directory's names, if it still is one.
    fn enter(&self, path: &[u8], levels: &mut Vec<Level>, held: &mut usize) -> Result<(), FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own: &[u8] = if path.is_empty() { b"." } else { path };
        let directory = match openat(&self.root, own, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(FileError::system("open", path, error)),
        };
        let failed = |error| FileError::system("read the directory", path, error);
        if fstat(&directory).map_err(failed)?.st_dev != self.device {
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            *held += cost(name);
            if *held > NAMES_BYTES_MAX {
                return Err(FileError::TooLarge { path: shown(path) });
            }
            names.push(name.to_owned());
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        levels.push(Level {
            path_len: path.len(),
            names,
        });
        Ok(())
    }
}

fn cost(name: &std::ffi::CStr) -> usize {
    name.to_bytes().len() + 1 + size_of::<CString>()
}

fn header(stat: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

//! Writes cpio archives in the `newc` format, which the kernel unpacks as an initial RAM file system.
//!
//! The format is described in Documentation/driver-api/early-userspace/buffer-format.rst. What is written
//! depends on the content alone: entries are sorted, owned by root and dated 1970. An archive's length is a
//! multiple of four, so archives can be concatenated; where two hold the same path, the later one wins.

use std::collections::BTreeMap;

use thiserror::Error;

/// Longest path the kernel accepts, `PATH_MAX` with its terminator.
const PATH_BYTES_MAX: usize = 4096;
const MODE_DIRECTORY: u32 = 0o040_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_SYMLINK: u32 = 0o120_000;
const MODE_CHAR_DEVICE: u32 = 0o020_000;
/// Mode of the directories that are made because something is inside them.
const PARENT_MODE: u32 = 0o755;
const TRAILER: &str = "TRAILER!!!";

/// A file tree to be written as a cpio archive.
#[derive(Clone, Debug, Default)]
pub struct CpioArchive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// File type and permissions, as in `st_mode`.
    mode: u32,
    /// Major and minor device number; zero but for device nodes.
    device: (u32, u32),
    /// A file's content or a symbolic link's target.
    data: Vec<u8>,
}

/// Why something cannot go into an archive.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CpioError {
    #[error("{path:?} cannot be a path in an archive: it must be a plain path without `.` and `..`")]
    Path { path: String },
    #[error("{path} is in the archive already")]
    Duplicate { path: String },
    #[error("{path} lies under something that is not a directory")]
    ParentNotDirectory { path: String },
    #[error("{path} is too large for an archive: {bytes} bytes")]
    TooLarge { path: String, bytes: usize },
}

impl CpioArchive {
    /// An archive without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory; those above it are made with mode 755 unless they are added too.
    ///
    /// # Errors
    /// When the path is not plain, taken, or under a file. The same holds for the other `add_` methods.
    pub fn add_dir(&mut self, path: &str, permissions: u32) -> Result<(), CpioError> {
        self.add(path, Entry::new(MODE_DIRECTORY, permissions))
    }

    /// Adds a file of less than 4 GiB.
    ///
    /// # Errors
    /// As [`add_dir`](Self::add_dir), and when the file is too large for the format.
    pub fn add_file(&mut self, path: &str, permissions: u32, data: Vec<u8>) -> Result<(), CpioError> {
        if u32::try_from(data.len()).is_err() {
            return Err(CpioError::TooLarge {
                path: path.to_owned(),
                bytes: data.len(),
            });
        }
        self.add(
            path,
            Entry {
                data,
                ..Entry::new(MODE_FILE, permissions)
            },
        )
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As [`add_dir`](Self::add_dir), and when the target cannot be one.
    pub fn add_symlink(&mut self, path: &str, target: &str) -> Result<(), CpioError> {
        if target.is_empty() || target.len() >= PATH_BYTES_MAX || target.contains('\0') {
            return Err(CpioError::Path {
                path: target.to_owned(),
            });
        }
        self.add(
            path,
            Entry {
                data: target.as_bytes().to_vec(),
                ..Entry::new(MODE_SYMLINK, 0o777)
            },
        )
    }

    /// Adds a character device node.
    ///
    /// # Errors
    /// As [`add_dir`](Self::add_dir).
    pub fn add_char_device(
        &mut self,
        path: &str,
        permissions: u32,
        device: (u32, u32),
    ) -> Result<(), CpioError> {
        self.add(
            path,
            Entry {
                device,
                ..Entry::new(MODE_CHAR_DEVICE, permissions)
            },
        )
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When something was added under a path that is not a directory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CpioError> {
        let entries = self.with_parents()?;
        let mut out = Vec::with_capacity(entries.values().map(|entry| entry.data.len() + 256).sum());
        for (index, (path, entry)) in (1_u32..).zip(&entries) {
            write_entry(&mut out, index, path, entry);
        }
        write_entry(&mut out, 0, TRAILER, &Entry::new(0, 0));
        Ok(out)
    }

    fn add(&mut self, path: &str, entry: Entry) -> Result<(), CpioError> {
        let path = plain(path)?;
        if self.entries.contains_key(&path) {
            return Err(CpioError::Duplicate { path });
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// The entries with every directory above them, sorted, so that a directory comes before what is in it.
    fn with_parents(&self) -> Result<BTreeMap<String, Entry>, CpioError> {
        let mut all = self.entries.clone();
        for path in self.entries.keys() {
            for (end, _) in path.match_indices('/') {
                let parent = all
                    .entry(path[..end].to_owned())
                    .or_insert_with(|| Entry::new(MODE_DIRECTORY, PARENT_MODE));
                if parent.mode & MODE_DIRECTORY != MODE_DIRECTORY {
                    return Err(CpioError::ParentNotDirectory { path: path.clone() });
                }
            }
        }
        Ok(all)
    }
}

impl Entry {
    fn new(kind: u32, permissions: u32) -> Self {
        Self {
            mode: kind | (permissions & 0o7777),
            device: (0, 0),
            data: Vec::new(),
        }
    }
}

/// The path without a leading slash, if it names one place and only one.
fn plain(path: &str) -> Result<String, CpioError> {
    let relative = path.strip_prefix('/').unwrap_or(path);
    let parts_are_plain = relative.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if parts_are_plain && relative.len() < PATH_BYTES_MAX && !relative.contains('\0') && relative != TRAILER {
        Ok(relative.to_owned())
    } else {
        Err(CpioError::Path {
            path: path.to_owned(),
        })
    }
}

fn write_entry(out: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) {
    let links = if entry.mode & MODE_DIRECTORY == MODE_DIRECTORY {
        2
    } else {
        1
    };
    // Lengths were checked when the entry was added, so these saturate never.
    let data_len = u32::try_from(entry.data.len()).unwrap_or(u32::MAX);
    let name_len = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
    // c_ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check.
    let fields = [
        inode,
        entry.mode,
        0,
        0,
        links,
        0,
        data_len,
        0,
        0,
        entry.device.0,
        entry.device.1,
        name_len,
        0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.data);
    pad(out);
}

/// Fills up to a multiple of four bytes; archives start at one too, so this also aligns within the whole.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests;

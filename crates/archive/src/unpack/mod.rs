//! A tree from a tar archive that nobody vouches for.
//!
//! The kernel keeps every path below the target (`RESOLVE_BENEATH`), so links that lead out of it, whether the archive
//! brought them or they were there before, are of no use to whoever made the archive. Links themselves are made as the
//! archive has them, since nothing is written through them. Files take their place whole; directories that are there
//! keep their mode. Pipes and devices are refused. What was unpacked before an error stays.

mod metered;
mod names;
mod target;

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use tar::{Archive, Entry, EntryType};

use crate::PIECE_BYTES;
use crate::error::{FileError, shown};
use metered::{Meter, Metered};
use target::Target;

/// What came out of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub entries: u64,
    /// Of content.
    pub bytes: u64,
}

struct Unpacker {
    target: Target,
    /// Permission bits that entries may have.
    mode_mask: u32,
    unpacked: Unpacked,
    piece: Vec<u8>,
}

/// Unpacks an archive below a directory, which has to be there, and reads `source` to its end. Of the modes in the
/// archive only the bits in `mode_mask` count.
///
/// # Errors
/// [`FileError::Entry`] for what an archive must not have, [`FileError::Archive`] for what is no whole archive,
/// [`FileError::Transfer`] when `source` broke, or what the operating system says.
pub fn unpack(directory: &Path, source: impl Read, mode_mask: u32) -> Result<Unpacked, FileError> {
    let meter = Meter::default();
    let metered = Metered::new(source, meter.clone());
    let broke = std::rc::Rc::clone(&metered.broke);
    let mut unpacker = Unpacker {
        target: Target::open(directory)?,
        mode_mask,
        unpacked: Unpacked::default(),
        piece: vec![0; PIECE_BYTES],
    };
    let unreadable = |error| match broke.get() {
        true => FileError::Transfer(error),
        false => FileError::Archive(error),
    };
    let mut archive = Archive::new(metered);
    meter.headers();
    let mut entries = archive.entries().map_err(unreadable)?;
    loop {
        meter.headers();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(unreadable)?;
        meter.content();
        unpacker.unpacked.entries += 1;
        unpacker.entry(&mut entry, &unreadable)?;
        // What the entry has and nobody wanted: the next header is behind it.
        io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
    }
    let mut rest = archive.into_inner().source;
    io::copy(&mut rest, &mut io::sink()).map_err(FileError::Transfer)?;
    Ok(unpacker.unpacked)
}

impl Unpacker {
    fn entry<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        unreadable: &impl Fn(io::Error) -> FileError,
    ) -> Result<(), FileError> {
        let name = entry.path_bytes().into_owned();
        let number = self.unpacked.entries;
        let refused = |why| FileError::Entry {
            number,
            path: shown(&name),
            why,
        };
        let path = names::relative(&name).map_err(refused)?;
        let out = |error: FileError| match error.errno() {
            Some(rustix::io::Errno::XDEV) => refused("leads out of the target through a link"),
            _ => error,
        };
        let mode = entry.header().mode().map_err(unreadable)? & self.mode_mask;
        match entry.header().entry_type() {
            EntryType::Directory => self.target.directory(&path, Some(mode)).map(drop).map_err(out),
            // Only a directory can be the target itself.
            _ if path.as_os_str().is_empty() => Err(refused("has no name")),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, &path, mode).map_err(out)
            }
            EntryType::Symlink => {
                let to = entry.link_name_bytes().ok_or_else(|| refused("leads nowhere"))?;
                self.target.symlink(&path, &to).map_err(out)
            }
            EntryType::Link => {
                let to = entry.link_name_bytes().ok_or_else(|| refused("leads nowhere"))?;
                let to: PathBuf = names::relative(&to).map_err(refused)?;
                self.target.hard_link(&path, &to).map_err(out)
            }
            _ => Err(refused("is neither a file nor a directory nor a link")),
        }
    }

    fn file<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path, mode: u32) -> Result<(), FileError> {
        let mtime = entry.header().mtime().unwrap_or(0);
        let mut staged = self
            .target
            .file(path)?
            .with_mode(Some(mode))
            .with_times(modified(mtime));
        let size = entry.size();
        staged.need_room(if entry.header().entry_type().is_gnu_sparse() {
            0
        } else {
            size
        })?;
        let mut copied = 0;
        loop {
            let count = match entry.read(&mut self.piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(FileError::Transfer(error)),
            };
            staged.write(&self.piece[..count])?;
            copied += count as u64;
        }
        if copied != size {
            let path = shown(path.as_os_str().as_bytes());
            let why = "ends before its end";
            let number = self.unpacked.entries;
            return Err(FileError::Entry { number, path, why });
        }
        staged.commit(|_| true)?;
        self.unpacked.bytes += size;
        Ok(())
    }
}

fn modified(seconds: u64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: i64::try_from(seconds).unwrap_or(0),
            tv_nsec: 0,
        },
    }
}

#[cfg(test)]
#[path = "../unpack_tests.rs"]
mod tests;

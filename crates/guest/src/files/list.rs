//! What is in a directory, a page at a time.
//!
//! Only as many names are held as the page has, however many the directory has: each page reads all of it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_proto::Reply;
use agent_proto::files::{FILE_PAGE_BODY_MAX, FileReply, FileStat, LIST_ENTRIES_MAX, ListDirectory, Listed};
use archive::FileError;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::problem::Problem;
use super::stat::{facts_with_target, failed};
use crate::connection::{Connection, Stream};

/// Most that an entry takes on the wire beside its name and target, in bytes.
const ENTRY_BYTES: usize = 60;
/// Names read between two looks at the connection.
const LOOK_EVERY: usize = 256;

pub(super) fn list<S: Stream>(
    connection: &mut Connection<S>,
    path: &Path,
    wanted: &ListDirectory,
) -> Result<(), Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOTDIR => FileError::NotDirectory {
            path: archive::shown(path.as_os_str().as_bytes()),
        }
        .into(),
        error => failed("open the directory", path, error),
    })?;
    let limit = wanted.limit.min(LIST_ENTRIES_MAX) as usize;
    let mut names: BTreeSet<CString> = BTreeSet::new();
    let mut more = false;
    let entries = Dir::read_from(&directory).map_err(|error| failed("read the directory", path, error))?;
    for (number, entry) in entries.enumerate() {
        let entry = entry.map_err(|error| failed("read the directory", path, error))?;
        if number % LOOK_EVERY == 0 {
            connection.look()?;
        }
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || name.to_bytes() <= wanted.after.as_slice() {
            continue;
        }
        let full = names.len() == limit;
        if full && names.last().is_none_or(|last| name >= last.as_c_str()) {
            more = true;
            continue;
        }
        names.insert(name.to_owned());
        if full {
            names.pop_last();
            more = true;
        }
    }
    let mut page = Page::default();
    for name in names {
        // What has gone meanwhile is not there.
        let Ok(stat) = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let stat = facts_with_target(&directory, &name, &stat);
        let name = name.into_bytes();
        if !page.fits(&name, &stat) {
            connection.reply(&page.take())?;
        }
        page.add(name, stat);
    }
    connection.push(&page.take())?;
    Ok(connection.reply(&Reply::File(FileReply::ListEnd { more }))?)
}

#[derive(Default)]
struct Page {
    entries: Vec<Listed>,
    bytes: usize,
}

impl Page {
    fn cost(name: &[u8], stat: &FileStat) -> usize {
        ENTRY_BYTES + name.len() + stat.target.as_ref().map_or(0, Vec::len)
    }

    fn fits(&self, name: &[u8], stat: &FileStat) -> bool {
        self.bytes + Self::cost(name, stat) <= FILE_PAGE_BODY_MAX
    }

    fn add(&mut self, name: Vec<u8>, stat: FileStat) {
        self.bytes += Self::cost(&name, &stat);
        self.entries.push(Listed { name, stat });
    }

    fn take(&mut self) -> Reply {
        self.bytes = 0;
        Reply::File(FileReply::Entries(std::mem::take(&mut self.entries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_proto::{EntryKind, HEADER_LEN};

    #[test]
    fn a_page_of_the_costliest_entries_stays_within_its_bound() {
        for len in [1, 255] {
            let stat = FileStat {
                kind: EntryKind::Other,
                mode: u32::MAX,
                size: u64::MAX,
                mtime_ns: i64::MIN,
                ctime_ns: i64::MIN,
                inode: u64::MAX,
                target: Some(vec![255; 4095]),
            };
            let mut page = Page::default();
            while page.fits(&vec![255; len], &stat) {
                page.add(vec![255; len], stat.clone());
            }
            let body = page.take().encode().unwrap().len() - HEADER_LEN;
            assert!(
                (FILE_PAGE_BODY_MAX / 2..=FILE_PAGE_BODY_MAX).contains(&body),
                "{body}"
            );
        }
    }
}

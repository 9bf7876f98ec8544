//! The content of one file, there and back.
//!
//! Bytes go through one buffer of a piece's size, from the file to the connection or the other way. A connection that
//! takes no more stops the reading; one that ends drops what was written, which nobody has seen.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_proto::files::{
    Expected, FILE_PIECE_MAX, FileProblem, FileReply, FileRequest, Opened, Range, WriteFile, data_header,
    piece,
};
use agent_proto::{HEADER_LEN, MessageError, Reply, Request};
use archive::{FileError, Staged, is_made_up, open_regular};
use rustix::fs::{Advice, CWD, Stat, fadvise};

use super::lean::Lean;
use super::problem::{Problem, refused};
use super::stat::{facts, facts_with_target};
use crate::connection::{Connection, ConnectionError, Stream};

/// A file that the kernel makes up and that is longer than this has no end worth waiting for (`/proc/kcore`).
const MADE_UP_BYTES_MAX: u64 = 64 << 20;

/// What the host has sent while content is expected.
enum Incoming {
    Piece(Result<(), FileError>),
    Commit,
}

/// A frame of content that is filled again and again.
pub(super) struct DataFrame(Vec<u8>);

pub(super) fn read<S: Stream>(
    connection: &mut Connection<S>,
    path: &Path,
    range: Range,
) -> Result<(), Problem> {
    let (mut file, stat) = open_regular(CWD, path, true)?;
    let stat = facts(&stat);
    let made_up = is_made_up(&file);
    let (offset, length) = if made_up {
        (0, None)
    } else {
        let (offset, length) = window(range, stat.size);
        (offset, Some(length))
    };
    let failed = |error| FileError::system("read", path.as_os_str().as_bytes(), error);
    if offset > 0 {
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    }
    connection.push(&Reply::File(FileReply::Opened(Opened { stat, offset, length })))?;
    let _ = fadvise(&file, offset, None, Advice::Sequential);
    let lean = Lean::at(offset);
    let sent = send_content(
        connection,
        &mut file,
        length.unwrap_or(MADE_UP_BYTES_MAX),
        lean,
        failed,
    )?;
    if length.is_some_and(|length| sent < length) {
        return Err(FileError::Changed {
            path: archive::shown(path.as_os_str().as_bytes()),
        }
        .into());
    }
    if made_up && sent == MADE_UP_BYTES_MAX {
        let message = format!("it did not end within {} MiB", MADE_UP_BYTES_MAX >> 20);
        return Err(Problem::Refused(FileProblem::Special, message));
    }
    Ok(connection.reply(&Reply::Done)?)
}

fn send_content<S: Stream>(
    connection: &mut Connection<S>,
    file: &mut File,
    most: u64,
    mut lean: Lean,
    failed: impl Fn(io::Error) -> FileError,
) -> Result<u64, Problem> {
    let mut frame = DataFrame::new(most);
    let mut left = most;
    while left > 0 {
        let room = frame.room();
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
        let count = match file.read(&mut room[..wanted]) {
            Ok(0) => break,
            // A file of the kernel's that has no more to say now.
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error).into()),
        };
        frame.send(connection, count)?;
        lean.moved(&*file, count);
        left -= count as u64;
    }
    Ok(most - left)
}

pub(super) fn write<S: Stream>(
    connection: &mut Connection<S>,
    path: &Path,
    wanted: &WriteFile,
) -> Result<(), Problem> {
    let holds = |existing: Option<&Stat>| holds(wanted.expected, existing);
    let mut staged = Staged::begin(path, wanted.parents)?
        .with_mode(wanted.mode.map(|mode| mode & 0o7777))
        .with_sync(wanted.sync);
    if !holds(staged.existing()?.as_ref()) {
        return Err(FileError::NotAsExpected {
            path: archive::shown(path.as_os_str().as_bytes()),
        }
        .into());
    }
    staged.need_room(wanted.length.unwrap_or(0))?;
    connection.reply(&Reply::Done)?;
    let mut lean = Lean::at(0);
    loop {
        let mut write = |bytes: &[u8]| {
            staged.write(bytes)?;
            lean.moved(&staged, bytes.len());
            Ok(())
        };
        match next(connection, &mut write)? {
            Incoming::Piece(Ok(())) => {}
            Incoming::Piece(Err(error)) => {
                // The disk has its room back before the host hears of it.
                drop(staged);
                return refuse_midway(connection, error.into());
            }
            Incoming::Commit => break,
        }
    }
    let stat = staged.commit(holds)?;
    let stat = facts_with_target(CWD, path, &stat);
    Ok(connection.reply(&Reply::File(FileReply::Stat(stat)))?)
}

/// Says why it cannot go on, and throws away what the host has sent until it has heard.
pub(super) fn refuse_midway<S: Stream>(
    connection: &mut Connection<S>,
    problem: Problem,
) -> Result<(), Problem> {
    connection.reply(&refused(problem))?;
    while let Incoming::Piece(_) = next(connection, |_| Ok(()))? {}
    Ok(())
}

/// Waits for the next piece, which `take` gets without its being copied, or for the end.
fn next<S: Stream>(
    connection: &mut Connection<S>,
    mut take: impl FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<Incoming, ConnectionError> {
    connection
        .receive_with(|kind, body| match piece(kind, body) {
            Some(bytes) => Ok(Some(Incoming::Piece(take(bytes)))),
            None => match Request::decode(kind, body)? {
                Request::File(FileRequest::Commit) => Ok(Some(Incoming::Commit)),
                _ => Ok::<_, MessageError>(None),
            },
        })?
        .ok_or(ConnectionError::Closed)
}

/// The next piece, into `buffer`; false at the end.
pub(super) fn next_piece<S: Stream>(
    connection: &mut Connection<S>,
    buffer: &mut Vec<u8>,
) -> Result<bool, ConnectionError> {
    buffer.clear();
    let incoming = next(connection, |bytes| {
        buffer.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(matches!(incoming, Incoming::Piece(_)))
}

fn holds(expected: Expected, existing: Option<&Stat>) -> bool {
    match (expected, existing) {
        (Expected::Anything, _) | (Expected::Absent, None) | (Expected::Present, Some(_)) => true,
        (
            Expected::Version {
                inode,
                size,
                ctime_ns,
            },
            Some(stat),
        ) => {
            let stat = facts(stat);
            (stat.inode, stat.size, stat.ctime_ns) == (inode, size, ctime_ns)
        }
        (Expected::Absent, Some(_)) | (Expected::Present | Expected::Version { .. }, None) => false,
    }
}

/// Where a range begins and how long it is, in a file of this size. One that begins behind the end is empty.
fn window(range: Range, size: u64) -> (u64, u64) {
    match range {
        Range::All => (0, size),
        Range::From(first) => (first, size.saturating_sub(first)),
        Range::Between(first, last) => {
            let end = last.saturating_add(1).min(size);
            (first, end.saturating_sub(first))
        }
        Range::Last(count) => {
            let length = count.min(size);
            (size - length, length)
        }
    }
}

impl DataFrame {
    /// For so many bytes in all: a small file needs no large buffer.
    pub(super) fn new(total: u64) -> Self {
        let piece = usize::try_from(total)
            .unwrap_or(FILE_PIECE_MAX)
            .min(FILE_PIECE_MAX);
        Self(vec![0; HEADER_LEN + piece])
    }

    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.0[HEADER_LEN..]
    }

    /// Sends the first bytes of the room.
    pub(super) fn send<S: Stream>(
        &mut self,
        connection: &mut Connection<S>,
        count: usize,
    ) -> Result<(), ConnectionError> {
        self.0[..HEADER_LEN].copy_from_slice(&data_header(count)?);
        connection.send_frame(&self.0[..HEADER_LEN + count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_window_lies_in_the_file_or_is_empty(size: u64, first: u64, last: u64) {
            for range in [Range::All, Range::From(first), Range::Between(first, last), Range::Last(last)] {
                let (offset, length) = window(range, size);
                prop_assert!(length == 0 || offset.checked_add(length).is_some_and(|end| end <= size));
            }
        }
    }

    #[test]
    fn windows_are_those_that_were_asked_for() {
        assert_eq!(window(Range::Between(2, 4), 10), (2, 3));
        assert_eq!(window(Range::Between(2, 40), 10), (2, 8));
        assert_eq!(window(Range::From(10), 10), (10, 0));
        assert_eq!(window(Range::Last(3), 10), (7, 3));
        assert_eq!(window(Range::Last(30), 10), (0, 10));
    }
}

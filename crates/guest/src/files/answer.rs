//! One file request, to its last reply.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use agent_proto::Reply;
use agent_proto::files::{FILE_PATH_MAX, FileProblem, FileReply, FileRequest, ReadFile};

use super::content::{read, write};
use super::list::list;
use super::problem::{Problem, refused};
use super::remove::remove;
use super::stat::{make_directory, stat};
use super::transfer::{pack, unpack};
use super::watch::watch;
use crate::connection::{Connection, ConnectionError, Stream};

/// Carries out a request. What it refuses it says itself, and leaves the connection free for the next one.
pub(crate) fn answer<S: Stream>(
    connection: &mut Connection<S>,
    request: FileRequest,
) -> Result<(), ConnectionError> {
    let done = match request {
        FileRequest::Stat { path, follow } => {
            checked(&path).and_then(|path| reply(connection, FileReply::Stat(stat(path, follow)?)))
        }
        FileRequest::Read(ReadFile { path, range }) => {
            checked(&path).and_then(|path| read(connection, path, range))
        }
        FileRequest::Write(wanted) => checked(&wanted.path).and_then(|path| write(connection, path, &wanted)),
        FileRequest::List(wanted) => checked(&wanted.path).and_then(|path| list(connection, path, &wanted)),
        FileRequest::Remove { path, recursive } => checked(&path).and_then(|path| {
            remove(path, recursive, || connection.look())?;
            Ok(connection.reply(&Reply::Done)?)
        }),
        FileRequest::MakeDirectory { path, mode, parents } => checked(&path)
            .and_then(|path| reply(connection, FileReply::Stat(make_directory(path, mode, parents)?))),
        FileRequest::Pack { path } => checked(&path).and_then(|path| pack(connection, path)),
        FileRequest::Unpack { path } => checked(&path).and_then(|path| unpack(connection, path)),
        FileRequest::Watch { path, recursive } => {
            checked(&path).and_then(|path| watch(connection, path, recursive))
        }
        FileRequest::Piece(_) | FileRequest::Commit => return Err(ConnectionError::Closed),
    };
    match done {
        Ok(()) => Ok(()),
        Err(Problem::Connection(error)) => Err(error),
        Err(problem) => connection.reply(&refused(problem)),
    }
}

fn reply<S: Stream>(connection: &mut Connection<S>, reply: FileReply) -> Result<(), Problem> {
    Ok(connection.reply(&Reply::File(reply))?)
}

fn checked(path: &[u8]) -> Result<&Path, Problem> {
    if !path.starts_with(b"/") || path.contains(&0) {
        let message = "a path is absolute and has no NUL".to_owned();
        return Err(Problem::Refused(FileProblem::BadRequest, message));
    }
    if path.len() >= FILE_PATH_MAX {
        let message = format!("a path has at most {} bytes", FILE_PATH_MAX - 1);
        return Err(Problem::Refused(FileProblem::NameTooLong, message));
    }
    Ok(Path::new(OsStr::from_bytes(path)))
}

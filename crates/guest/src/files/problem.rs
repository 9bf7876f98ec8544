//! Why a file request is not carried out, for the other side.

use agent_proto::Reply;
use agent_proto::files::{FileProblem, FileRefusal, FileReply};
use archive::FileError;
use pod_types::ErrorChain;
use rustix::io::Errno;

use crate::connection::ConnectionError;

#[derive(Debug)]
pub(super) enum Problem {
    /// There is nobody to tell.
    Connection(ConnectionError),
    File(FileError),
    Refused(FileProblem, String),
}

impl From<ConnectionError> for Problem {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

pub(super) fn refused(problem: Problem) -> Reply {
    let (problem, message) = match problem {
        Problem::Refused(problem, message) => (problem, message),
        Problem::File(error) => (kind_of(&error), ErrorChain(&error).to_string()),
        Problem::Connection(error) => (FileProblem::Internal, ErrorChain(&error).to_string()),
    };
    Reply::File(FileReply::Refused(FileRefusal { problem, message }))
}

fn kind_of(error: &FileError) -> FileProblem {
    match error {
        FileError::System { .. } => error.errno().map_or(FileProblem::Internal, kind_of_errno),
        FileError::IsDirectory { .. } => FileProblem::IsDirectory,
        FileError::NotDirectory { .. } => FileProblem::NotDirectory,
        FileError::Special { .. } => FileProblem::Special,
        FileError::NotAsExpected { .. } => FileProblem::NotAsExpected,
        FileError::Changed { .. } => FileProblem::Changed,
        FileError::TooLarge { .. } => FileProblem::TooMany,
        FileError::Entry { .. } | FileError::Archive(_) => FileProblem::BadArchive,
        FileError::Transfer(_) => FileProblem::Internal,
    }
}

fn kind_of_errno(errno: Errno) -> FileProblem {
    match errno {
        Errno::NOENT => FileProblem::NotFound,
        Errno::ISDIR => FileProblem::IsDirectory,
        Errno::NOTDIR => FileProblem::NotDirectory,
        Errno::NOTEMPTY => FileProblem::NotEmpty,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => FileProblem::DiskFull,
        Errno::PERM | Errno::ACCESS | Errno::ROFS | Errno::BUSY | Errno::TXTBSY | Errno::XDEV => {
            FileProblem::NotPermitted
        }
        Errno::NAMETOOLONG => FileProblem::NameTooLong,
        Errno::LOOP => FileProblem::TooManyLinks,
        // A file of the kernel's that has nothing to say now, or only to some.
        Errno::AGAIN | Errno::NXIO | Errno::NODEV => FileProblem::Special,
        Errno::EXIST => FileProblem::NotAsExpected,
        _ => FileProblem::Internal,
    }
}

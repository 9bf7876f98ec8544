//! The types of file requests and replies.

use serde::{Deserialize, Serialize};

use crate::message::EntryKind;

/// What the host asks about files. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileRequest {
    /// Answered with [`FileReply::Stat`]. Whether a symbolic link at the end of the path is followed is said.
    Stat { path: Vec<u8>, follow: bool },
    /// The content of a regular file, links followed; [`FileReply::Opened`], then [`FileReply::Data`], then `Done`.
    Read(ReadFile),
    /// New content for a file; `Done`, and after [`FileRequest::Commit`] [`FileReply::Stat`].
    Write(WriteFile),
    /// Some of the content of what is being written or unpacked; not answered.
    Piece(Vec<u8>),
    /// All pieces have been sent.
    Commit,
    /// What is in a directory; [`FileReply::Entries`], then [`FileReply::ListEnd`].
    List(ListDirectory),
    /// Answered with `Done`. A link is removed itself.
    Remove { path: Vec<u8>, recursive: bool },
    /// Answered with [`FileReply::Stat`]; a directory that is there already is left as it is.
    MakeDirectory {
        path: Vec<u8>,
        mode: Option<u32>,
        parents: bool,
    },
    /// A tar archive of what is below a directory, or of one file; [`FileReply::Opened`] without a length, then
    /// [`FileReply::Data`], then `Done`.
    Pack { path: Vec<u8> },
    /// The pieces are a tar archive, to be unpacked below a directory, which is made if it is missing; `Done`, and
    /// after [`FileRequest::Commit`] [`FileReply::Unpacked`].
    Unpack { path: Vec<u8> },
    /// `Done` once it watches, then [`FileReply::Changes`] until the connection ends, or `Done` when what is watched is
    /// gone.
    Watch { path: Vec<u8>, recursive: bool },
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileReply {
    Stat(FileStat),
    Opened(Opened),
    /// At most [`super::FILE_PIECE_MAX`] bytes of content.
    Data(Vec<u8>),
    /// Some of a listing, in the order of the bytes of the names.
    Entries(Vec<Listed>),
    /// The listing is over; there may be more behind its last name.
    ListEnd {
        more: bool,
    },
    Unpacked {
        entries: u64,
        bytes: u64,
    },
    Changes(Vec<Change>),
    Refused(FileRefusal),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFile {
    pub path: Vec<u8>,
    pub range: Range,
}

/// Which bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Range {
    All,
    From(u64),
    /// Both ends included.
    Between(u64, u64),
    /// So many at the end.
    Last(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteFile {
    pub path: Vec<u8>,
    /// Without one a file that is replaced keeps its own, and a new one gets 0644.
    pub mode: Option<u32>,
    /// Whether missing directories on the way are made.
    pub parents: bool,
    /// Whether the content is on the disk before it is answered.
    pub sync: bool,
    pub expected: Expected,
    /// How much will come, where that is known.
    pub length: Option<u64>,
}

/// What has to be there for a file to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    Anything,
    /// No file yet.
    Absent,
    /// Some file.
    Present,
    /// The file as it was.
    Version {
        inode: u64,
        size: u64,
        ctime_ns: i64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDirectory {
    pub path: Vec<u8>,
    /// Only names behind this one.
    pub after: Vec<u8>,
    /// At most so many, and at most [`super::LIST_ENTRIES_MAX`].
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    pub kind: EntryKind,
    /// Permission bits, set-id bits and sticky bit.
    pub mode: u32,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub inode: u64,
    /// Where a symbolic link leads.
    pub target: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub stat: FileStat,
    /// Where the content that follows begins.
    pub offset: u64,
    /// How much of it follows; `None` where only reading tells.
    pub length: Option<u64>,
}

/// One file of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub name: Vec<u8>,
    pub stat: FileStat,
}

/// Something has happened below what is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub kind: ChangeKind,
    pub directory: bool,
    /// Absolute.
    pub path: Vec<u8>,
    /// Where it has been moved.
    pub to: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    Created,
    /// Its content or its metadata.
    Modified,
    Deleted,
    Moved,
    /// More has happened than could be told.
    Overflow,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRefusal {
    pub problem: FileProblem,
    /// For people.
    pub message: String,
}

/// Why a file request cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileProblem {
    NotFound,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    /// A pipe, socket or device, or a file the kernel makes up.
    Special,
    DiskFull,
    NotPermitted,
    NameTooLong,
    TooManyLinks,
    /// What is there is not what was [`Expected`].
    NotAsExpected,
    BadArchive,
    /// It became another while it was read.
    Changed,
    /// A bound of the agent's: directories that are watched, for one.
    TooMany,
    BadRequest,
    /// The agent, or the guest's disk, could not do it.
    Internal,
}

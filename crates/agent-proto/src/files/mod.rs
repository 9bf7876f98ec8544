//! Files of a guest: what the host asks about them, and what the agent answers.
//!
//! ```text
//! host                                   agent
//!  │ Read{path, range}                     │
//!  │           Opened{stat, offset, length}│
//!  │                          Data(bytes)… │
//!  │                                  Done │   only after all of it; anything else is a broken file
//!  │                                       │
//!  │ Write{path, …} or Unpack{path}        │
//!  │                                  Done │   it can be written; nothing has changed yet
//!  │ Piece(bytes)…                         │
//!  │ Commit                                │
//!  │            Stat(stat) or Unpacked{…}  │   the new content is in place, all of it at once
//! ```
//!
//! A connection that ends before `Commit` leaves the old file as it was. An agent that cannot go on says
//! [`FileReply::Refused`] in the middle of the pieces, throws away those that still come, and ends with the connection.
//!
//! Paths and names are bytes, as Linux has them: anything but NUL. Content travels as raw bytes; everything else is
//! postcard.

mod types;
mod wire;

pub use types::{
    Change, ChangeKind, Expected, FileProblem, FileRefusal, FileReply, FileRequest, FileStat, ListDirectory,
    Listed, Opened, Range, ReadFile, WriteFile,
};
pub(crate) use wire::{REPLY_KINDS, REQUEST_KINDS};
pub use wire::{data_header, piece, piece_header};

/// Longest path of a request, in bytes: `PATH_MAX` of Linux.
pub const FILE_PATH_MAX: usize = 4096;

/// Longest piece of a file's content in one frame, in bytes.
pub const FILE_PIECE_MAX: usize = 64 * 1024;

/// Longest body of a file request that is not a piece: two paths, and room for the fields around them.
pub const FILE_REQUEST_BODY_MAX: usize = 2 * FILE_PATH_MAX + 256;

/// Longest body of [`FileReply::Entries`] and [`FileReply::Changes`], in bytes. One entry or change of the longest names
/// fits in any case.
pub const FILE_PAGE_BODY_MAX: usize = 64 * 1024;

/// Most entries that one [`FileRequest::List`] may ask for.
pub const LIST_ENTRIES_MAX: u32 = 10_000;

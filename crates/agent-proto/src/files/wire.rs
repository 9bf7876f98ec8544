//! Kinds and bodies of the frames of file messages.

use std::ops::RangeInclusive;

use super::types::{FileReply, FileRequest};
use super::{FILE_PIECE_MAX, FILE_REQUEST_BODY_MAX};
use crate::frame::{Direction, HEADER_LEN, Header, KIND_AT};
use crate::message::{Decoded, MessageError, empty, framed, packed, unpacked};

pub(crate) const REQUEST_KINDS: RangeInclusive<u8> = 32..=47;
pub(crate) const REPLY_KINDS: RangeInclusive<u8> = 96..=111;

mod kind {
    pub(super) const STAT_OF: u8 = 32;
    pub(super) const READ: u8 = 33;
    pub(super) const WRITE: u8 = 34;
    pub(super) const PIECE: u8 = 35;
    pub(super) const COMMIT: u8 = 36;
    pub(super) const LIST: u8 = 37;
    pub(super) const REMOVE: u8 = 38;
    pub(super) const MAKE_DIRECTORY: u8 = 39;
    pub(super) const PACK: u8 = 40;
    pub(super) const UNPACK: u8 = 41;
    pub(super) const WATCH: u8 = 42;

    pub(super) const STAT: u8 = 96;
    pub(super) const OPENED: u8 = 97;
    pub(super) const DATA: u8 = 98;
    pub(super) const ENTRIES: u8 = 99;
    pub(super) const LIST_END: u8 = 100;
    pub(super) const UNPACKED: u8 = 101;
    pub(super) const CHANGES: u8 = 102;
    pub(super) const REFUSED: u8 = 103;
}

impl FileRequest {
    pub(crate) fn encode(&self) -> Decoded<Vec<u8>> {
        let from = Direction::HostToGuest;
        let frame = match self {
            Self::Stat { path, follow } => packed(kind::STAT_OF, &(path, follow), from),
            Self::Read(read) => packed(kind::READ, read, from),
            Self::Write(write) => packed(kind::WRITE, write, from),
            Self::Piece(bytes) => framed(kind::PIECE, bytes, from),
            Self::Commit => framed(kind::COMMIT, &[], from),
            Self::List(list) => packed(kind::LIST, list, from),
            Self::Remove { path, recursive } => packed(kind::REMOVE, &(path, recursive), from),
            Self::MakeDirectory { path, mode, parents } => {
                packed(kind::MAKE_DIRECTORY, &(path, mode, parents), from)
            }
            Self::Pack { path } => packed(kind::PACK, path, from),
            Self::Unpack { path } => packed(kind::UNPACK, path, from),
            Self::Watch { path, recursive } => packed(kind::WATCH, &(path, recursive), from),
        }?;
        let (header, body) = frame.split_at(HEADER_LEN);
        let (kind, len) = (header[KIND_AT], body.len());
        let max = body_max(kind);
        if len > max {
            return Err(MessageError::TooLong { kind, len, max });
        }
        Ok(frame)
    }

    pub(crate) fn decode(kind: u8, body: &[u8]) -> Decoded<Self> {
        let max = body_max(kind);
        if body.len() > max {
            let len = body.len();
            return Err(MessageError::TooLong { kind, len, max });
        }
        Ok(match kind {
            kind::STAT_OF => {
                let (path, follow) = unpacked(kind, body)?;
                Self::Stat { path, follow }
            }
            kind::READ => Self::Read(unpacked(kind, body)?),
            kind::WRITE => Self::Write(unpacked(kind, body)?),
            kind::PIECE => Self::Piece(body.to_vec()),
            kind::COMMIT => empty(body).map(|()| Self::Commit)?,
            kind::LIST => Self::List(unpacked(kind, body)?),
            kind::REMOVE => {
                let (path, recursive) = unpacked(kind, body)?;
                Self::Remove { path, recursive }
            }
            kind::MAKE_DIRECTORY => {
                let (path, mode, parents) = unpacked(kind, body)?;
                Self::MakeDirectory { path, mode, parents }
            }
            kind::PACK => Self::Pack {
                path: unpacked(kind, body)?,
            },
            kind::UNPACK => Self::Unpack {
                path: unpacked(kind, body)?,
            },
            kind::WATCH => {
                let (path, recursive) = unpacked(kind, body)?;
                Self::Watch { path, recursive }
            }
            unknown => return Err(MessageError::UnknownKind(unknown)),
        })
    }
}

/// The content in a frame from the host, if that is what it carries; for those who do not want it copied.
#[must_use]
pub fn piece(kind: u8, body: &[u8]) -> Option<&[u8]> {
    (kind == kind::PIECE && body.len() <= FILE_PIECE_MAX).then_some(body)
}

/// The header of a frame of [`FileRequest::Piece`]; its content follows.
///
/// # Errors
/// More than [`FILE_PIECE_MAX`] bytes.
pub fn piece_header(len: usize) -> Decoded<[u8; HEADER_LEN]> {
    content_header(kind::PIECE, len, Direction::HostToGuest)
}

/// The header of a frame of [`FileReply::Data`]; its content follows.
///
/// # Errors
/// More than [`FILE_PIECE_MAX`] bytes.
pub fn data_header(len: usize) -> Decoded<[u8; HEADER_LEN]> {
    content_header(kind::DATA, len, Direction::GuestToHost)
}

fn content_header(kind: u8, len: usize, from: Direction) -> Decoded<[u8; HEADER_LEN]> {
    if len > FILE_PIECE_MAX {
        let max = FILE_PIECE_MAX;
        return Err(MessageError::TooLong { kind, len, max });
    }
    let header = Header { kind, body_len: len };
    header.encode(from).map_err(MessageError::Frame)
}

fn body_max(kind: u8) -> usize {
    if kind == kind::PIECE {
        FILE_PIECE_MAX
    } else {
        FILE_REQUEST_BODY_MAX
    }
}

impl FileReply {
    pub(crate) fn encode(&self) -> Decoded<Vec<u8>> {
        let from = Direction::GuestToHost;
        match self {
            Self::Stat(stat) => packed(kind::STAT, stat, from),
            Self::Opened(opened) => packed(kind::OPENED, opened, from),
            Self::Data(bytes) => framed(kind::DATA, bytes, from),
            Self::Entries(entries) => packed(kind::ENTRIES, entries, from),
            Self::ListEnd { more } => packed(kind::LIST_END, more, from),
            Self::Unpacked { entries, bytes } => packed(kind::UNPACKED, &(entries, bytes), from),
            Self::Changes(changes) => packed(kind::CHANGES, changes, from),
            Self::Refused(refusal) => packed(kind::REFUSED, refusal, from),
        }
    }

    pub(crate) fn decode(kind: u8, body: Vec<u8>) -> Decoded<Self> {
        Ok(match kind {
            kind::STAT => Self::Stat(unpacked(kind, &body)?),
            kind::OPENED => Self::Opened(unpacked(kind, &body)?),
            kind::DATA => Self::Data(body),
            kind::ENTRIES => Self::Entries(unpacked(kind, &body)?),
            kind::LIST_END => Self::ListEnd {
                more: unpacked(kind, &body)?,
            },
            kind::UNPACKED => {
                let (entries, bytes) = unpacked(kind, &body)?;
                Self::Unpacked { entries, bytes }
            }
            kind::CHANGES => Self::Changes(unpacked(kind, &body)?),
            kind::REFUSED => Self::Refused(unpacked(kind, &body)?),
            unknown => return Err(MessageError::UnknownKind(unknown)),
        })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

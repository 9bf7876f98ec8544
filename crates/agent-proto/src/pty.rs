//! Terminals: programs on pseudo-terminals, which live in the agent.
//!
//! A session's output is numbered by its bytes: the first one it ever wrote is byte 0. The agent keeps the newest
//! [`PTY_KEPT_BYTES`] of it, and every piece of output says where it begins, so whoever reads knows what was lost.
//!
//! ```text
//! host                                    agent
//!  │ Create{id, program, size…}             │
//!  │                                  Done  │   the program runs
//!  │ Attach{id, since}                      │   on this connection or another
//!  │                                  Done  │   there is such a session
//!  │           Output{seq, bytes}… Exit{code}   what is kept, then what comes; closing the connection detaches
//! ```

use serde::{Deserialize, Serialize};

use crate::frame::{Direction, OUTPUT_PIECE_MAX};
use crate::message::{Decoded, MessageError, empty, framed, packed, unpacked};

/// Output kept for each session, in bytes; the oldest goes first.
pub const PTY_KEPT_BYTES: usize = 1 << 20;

/// Longest input of one request, in bytes.
pub const PTY_INPUT_MAX: usize = 1 << 20;

/// Longest body of [`PtyRequest::Create`], in bytes. Linux takes single arguments of 128 KiB.
pub const PTY_CREATE_BODY_MAX: usize = 256 * 1024;

/// Longest output in one frame, in bytes.
pub const PTY_OUTPUT_MAX: usize = OUTPUT_PIECE_MAX;

/// Longest wait of [`PtyRequest::Read`], in milliseconds.
pub const PTY_WAIT_MS_MAX: u32 = 30_000;

/// Most columns, and most rows, of a window.
pub const PTY_SIDE_MAX: u16 = 4096;

/// Most bytes of a label.
pub const PTY_LABEL_MAX: usize = 256;

/// What of a request is longest beside its data: kind of enumeration, id and lengths.
const OVERHEAD_BYTES: usize = 64;

/// Bytes of a sequence number in front of output.
const SEQ_BYTES: usize = 8;

/// Names a session; drawn by the host. Clones of a machine know their sessions under the same names.
pub type PtyName = [u8; 16];

/// What the host asks of terminals. Requests that name a session there is none of are answered with
/// [`crate::FailureCode::NotFound`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PtyRequest {
    /// Answered with [`crate::Reply::Done`] once the program has been executed.
    Create(PtyCreate),
    /// Answered with [`PtyReply::Sessions`].
    List,
    /// Bytes as if typed; answered with [`crate::Reply::Done`] once all of them have been taken.
    Input { name: PtyName, bytes: Vec<u8> },
    /// Answered with [`crate::Reply::Done`].
    Resize { name: PtyName, size: PtySize },
    /// SIGKILL to the program's process group and what else is in its session. Answered with [`crate::Reply::Done`],
    /// also when it has exited.
    Kill { name: PtyName },
    /// Answered with [`crate::Reply::Done`], then [`PtyReply::Output`] from byte `since` on, at last [`PtyReply::Exit`].
    Attach { name: PtyName, since: u64 },
    /// Answered with one [`PtyReply::Output`], empty when nothing has come in time, and then with [`PtyReply::Exit`] when
    /// the program has exited and nothing is left to read, or with [`crate::Reply::Done`].
    Read(PtyRead),
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PtyReply {
    /// Oldest first.
    Sessions(Vec<PtySession>),
    /// Output from byte `seq` on.
    Output {
        seq: u64,
        bytes: Vec<u8>,
    },
    Exit {
        code: i32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtyCreate {
    pub name: PtyName,
    pub program: PtyProgram,
    pub size: PtySize,
    /// Added to the agent's environment, the last of one name wins.
    pub environment: Vec<(String, String)>,
    /// Working directory; the home directory without it, and relative to that.
    pub directory: Option<String>,
    /// Milliseconds since the Unix epoch, as the host knows them.
    pub created_at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PtyProgram {
    /// Run by `bash -lc`.
    Shell(String),
    /// Executed as it is.
    Arguments(Vec<String>),
}

/// A window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtySize {
    pub columns: u16,
    pub rows: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtyRead {
    pub name: PtyName,
    /// Number of the first byte wanted.
    pub since: u64,
    pub bytes_max: u32,
    /// How long to wait for the first byte; at most [`PTY_WAIT_MS_MAX`].
    pub wait_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtySession {
    pub name: PtyName,
    /// What runs there, for people; at most [`PTY_LABEL_MAX`] bytes.
    pub label: String,
    pub created_at_ms: u64,
    /// 128+n when signal n ended it.
    pub exit_code: Option<i32>,
}

mod kind {
    pub(super) const CREATE: u8 = 16;
    pub(super) const LIST: u8 = 17;
    pub(super) const INPUT: u8 = 18;
    pub(super) const RESIZE: u8 = 19;
    pub(super) const KILL: u8 = 20;
    pub(super) const ATTACH: u8 = 21;
    pub(super) const READ: u8 = 22;

    pub(super) const SESSIONS: u8 = 80;
    pub(super) const OUTPUT: u8 = 81;
    pub(super) const EXIT: u8 = 82;
}

impl PtyRequest {
    /// Kinds of frames that are requests of terminals.
    pub(crate) const KINDS: std::ops::RangeInclusive<u8> = 16..=31;

    pub(crate) fn encode(&self) -> Decoded<Vec<u8>> {
        let from = Direction::HostToGuest;
        match self {
            Self::Create(create) => {
                packed(kind::CREATE, create, from).and_then(|frame| bounded(frame, PTY_CREATE_BODY_MAX))
            }
            Self::List => framed(kind::LIST, &[], from),
            Self::Input { name, bytes } => {
                if bytes.len() > PTY_INPUT_MAX {
                    return Err(too_long(kind::INPUT, bytes.len(), PTY_INPUT_MAX));
                }
                framed(kind::INPUT, &[&name[..], bytes].concat(), from)
            }
            Self::Resize { name, size } => packed(kind::RESIZE, &(name, size), from),
            Self::Kill { name } => packed(kind::KILL, name, from),
            Self::Attach { name, since } => packed(kind::ATTACH, &(name, since), from),
            Self::Read(read) => packed(kind::READ, read, from),
        }
    }

    pub(crate) fn decode(kind: u8, body: &[u8]) -> Decoded<Self> {
        let max = match kind {
            kind::CREATE => PTY_CREATE_BODY_MAX,
            kind::INPUT => size_of::<PtyName>() + PTY_INPUT_MAX,
            _ => OVERHEAD_BYTES,
        };
        if body.len() > max {
            return Err(too_long(kind, body.len(), max));
        }
        Ok(match kind {
            kind::CREATE => Self::Create(unpacked(kind, body)?),
            kind::LIST => empty(body).map(|()| Self::List)?,
            kind::INPUT => {
                let (name, bytes) = body.split_first_chunk().ok_or(MessageError::Short { kind })?;
                Self::Input {
                    name: *name,
                    bytes: bytes.to_vec(),
                }
            }
            kind::RESIZE => {
                let (name, size) = unpacked(kind, body)?;
                Self::Resize { name, size }
            }
            kind::KILL => Self::Kill {
                name: unpacked(kind, body)?,
            },
            kind::ATTACH => {
                let (name, since) = unpacked(kind, body)?;
                Self::Attach { name, since }
            }
            kind::READ => Self::Read(unpacked(kind, body)?),
            unknown => return Err(MessageError::UnknownKind(unknown)),
        })
    }
}

impl PtyReply {
    /// Kinds of frames that are replies of terminals.
    pub(crate) const KINDS: std::ops::RangeInclusive<u8> = 80..=95;

    pub(crate) fn encode(&self) -> Decoded<Vec<u8>> {
        let from = Direction::GuestToHost;
        match self {
            Self::Sessions(sessions) => packed(kind::SESSIONS, sessions, from),
            Self::Output { seq, bytes } => {
                if bytes.len() > PTY_OUTPUT_MAX {
                    return Err(too_long(kind::OUTPUT, bytes.len(), PTY_OUTPUT_MAX));
                }
                framed(kind::OUTPUT, &[&seq.to_le_bytes()[..], bytes].concat(), from)
            }
            Self::Exit { code } => packed(kind::EXIT, code, from),
        }
    }

    pub(crate) fn decode(kind: u8, mut body: Vec<u8>) -> Decoded<Self> {
        Ok(match kind {
            kind::SESSIONS => Self::Sessions(unpacked(kind, &body)?),
            kind::OUTPUT => {
                let seq = *body.first_chunk().ok_or(MessageError::Short { kind })?;
                let max = SEQ_BYTES + PTY_OUTPUT_MAX;
                if body.len() > max {
                    return Err(too_long(kind, body.len(), max));
                }
                body.drain(..SEQ_BYTES);
                Self::Output {
                    seq: u64::from_le_bytes(seq),
                    bytes: body,
                }
            }
            kind::EXIT => Self::Exit {
                code: unpacked(kind, &body)?,
            },
            unknown => return Err(MessageError::UnknownKind(unknown)),
        })
    }
}

fn bounded(frame: Vec<u8>, max: usize) -> Decoded<Vec<u8>> {
    let len = frame.len() - crate::HEADER_LEN;
    if len > max {
        return Err(too_long(frame[4], len, max));
    }
    Ok(frame)
}

fn too_long(kind: u8, len: usize, max: usize) -> MessageError {
    MessageError::TooLong { kind, len, max }
}

#[cfg(test)]
mod tests;

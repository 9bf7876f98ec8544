//! The messages inside frames.
//!
//! Output is carried as raw bytes; everything else is postcard. Encoding gives a whole frame, header included;
//! decoding takes a header's kind and its complete body.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::{self, FileReply, FileRequest};
use crate::frame::{Direction, FrameError, HEADER_LEN, Header};
use crate::ports::{PortReply, PortRequest};
use crate::pty::{PtyReply, PtyRequest};

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// First on every connection; answered with [`Reply::Welcome`].
    Hello { version: u16 },
    /// Who this VM is from now on; answered with [`Reply::Time`] once all of it has taken effect.
    Identify(Identity),
    /// Run code; answered with output and then [`Reply::Exit`].
    Exec(ExecRequest),
    /// Are you alive; answered with [`Reply::Done`].
    Ping,
    /// Stop everything, sync and power off; answered with [`Reply::Done`] when it has begun.
    PowerOff,
    /// Put the clock forward by so much, or back where it is negative; 0 only asks. Answered with [`Reply::Time`].
    Clock { forward_ns: i64 },
    /// List the files below some directories; answered with any number of [`Reply::Entries`] and then
    /// [`Reply::Done`].
    Inventory(Inventory),
    /// SHA-256 of at most [`DIGEST_PATHS_MAX`] regular files; answered with [`Reply::Digests`].
    Digests { paths: Vec<Vec<u8>> },
    /// The output of the run that this machine, being a clone, has carried on without its client:
    /// [`Reply::Carried`], what is kept of it since the clone, then what follows, then [`Reply::Exit`]. [`FailureCode::NotFound`] when there was no such
    /// run, or it ended and another has begun; [`FailureCode::Busy`] while another connection follows it. Closing the
    /// connection does not cancel it.
    Follow,
    /// In the middle of a run: interrupt it, nobody wants it any more. Not answered; the connection ends. A connection that
    /// ends without it says that the host itself is gone: the run goes on as in a clone, see [`Request::Resume`].
    Cancel,
    /// The output of the last run, for a host that comes after one that is gone: [`Reply::Resumed`], what is kept of it
    /// beyond what the host has got, then what follows, then [`Reply::Exit`]. [`FailureCode::NotFound`] when the host has
    /// got all of it. Otherwise as [`Request::Follow`].
    Resume(Resume),
    /// About terminals.
    Pty(PtyRequest),
    /// Keep the rest of the disk out of use, so that programs find it full before the host's disk is: leave this many
    /// bytes free, which may be less or more than are. [`u64::MAX`] gives everything back.
    Room { leave_bytes: u64 },
    /// About the files of the guest; see [`crate::files`].
    File(FileRequest),
    /// About what listens in the guest.
    Port(PortRequest),
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Welcome(Welcome),
    /// Sent on the agent's own connection to [`crate::READY_PORT`].
    Ready(Ready),
    Done,
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exit(Exit),
    Failed(Failure),
    /// Some of an [`Inventory`], in at most [`ENTRIES_BODY_MAX`] bytes of frame body.
    Entries(Vec<Entry>),
    /// In the order of the paths asked for; `None` for what is not a readable regular file any more.
    Digests(Vec<Option<[u8; 32]>>),
    /// In the output of a run that is followed: here so much was not kept.
    Dropped {
        bytes: u64,
    },
    File(FileReply),
    /// Of terminals.
    Pty(PtyReply),
    /// Of ports.
    Port(PortReply),
    /// What the guest's clock showed when this was sent, in nanoseconds since the Unix epoch.
    Time {
        wall_clock_ns: u64,
    },
    /// There is a run to follow; its output comes next.
    Carried(Carried),
    /// There is a run to go on with; its output comes next.
    Resumed(Resumed),
    Room(Room),
}

/// What a host has got of the last run that it knows of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Its [`ExecRequest::run`]; 0 when the host knows of none.
    pub run: u64,
    /// Its end, too.
    pub ended: bool,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
}

/// Which run comes, and how much of each stream is before what comes: as much as the host has got, or nothing of a run it
/// did not know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    pub run: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
}

/// How much room there is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub free_bytes: u64,
    /// Kept out of use by [`Request::Room`].
    pub held_bytes: u64,
}

/// Where the output of a carried run begins: how much of each stream the connection of the machine it was cloned from
/// had taken. What comes is what followed that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Its [`ExecRequest::run`].
    pub run: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
}

/// A request or a reply, decoded.
pub type Decoded<T> = Result<T, MessageError>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub version: u16,
    /// Version of the agent's package, for people.
    pub build: String,
}

/// The REPL is warm and the agent listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub version: u16,
    /// Kernel start to ready, in milliseconds.
    pub uptime_ms: u64,
}

/// All that makes a clone itself. Without it two clones draw the same random numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// At most 63 bytes of `[a-z0-9-]`.
    pub hostname: String,
    /// Written to `/etc/machine-id` as 32 hexadecimal digits.
    pub machine_id: [u8; 16],
    /// Wall clock, nanoseconds since the Unix epoch; none where the clock went on with the machine this one was cloned
    /// from, and is as right as that one's.
    pub wall_clock_ns: Option<u64>,
    /// Fresh randomness for the kernel's pool and for user space.
    pub entropy: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub language: Language,
    /// Names the run among those of this machine, for [`Request::Resume`]; 0 for one that nobody will ask for again.
    pub run: u64,
    /// Counted from the start of the run, not from its place in the queue.
    pub timeout_ms: Option<u64>,
    /// Where in whose trace the run belongs, as the header of that name has it; at most [`TRACEPARENT_BYTES_MAX`] of
    /// printable ASCII. The code sees it as `TRACEPARENT` in its environment.
    pub traceparent: Option<String>,
    pub code: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Language {
    Python,
    Bash,
}

/// A run has ended; all of its output has been sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 success, 1 exception, 128+n killed by signal n, or what the code asked for.
    pub code: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: FailureCode,
    /// For people; names what to do where there is something.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureCode {
    /// The request does not make sense; the caller's fault.
    BadRequest,
    /// Too many runs wait already; try again later.
    Busy,
    /// The agent could not do it; our fault.
    Internal,
    /// There is nothing of what the request names.
    NotFound,
}

/// Which files to list. Symbolic links are not followed and file systems not crossed; the order is depth first,
/// sorted by the bytes of the name. Nothing is locked: what changes meanwhile may be seen before or after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Absolute paths. Each is listed itself, then what is below it.
    pub roots: Vec<String>,
    /// Absolute paths that are left out, with all that is below them.
    pub skip: Vec<String>,
}

/// One file of an inventory, as `lstat` sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute; any bytes but NUL.
    pub path: Vec<u8>,
    pub kind: EntryKind,
    /// Permission bits, set-id bits and sticky bit; not the type.
    pub mode: u32,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    File,
    Directory,
    Symlink,
    /// A pipe, socket or device; these are never opened.
    Other,
}

/// Longest `traceparent` of a run, in bytes. Version 00 has 55.
pub const TRACEPARENT_BYTES_MAX: usize = 55;

/// Longest body of [`Reply::Entries`], in bytes.
pub const ENTRIES_BODY_MAX: usize = 64 * 1024;

/// Most paths in one [`Request::Digests`].
pub const DIGEST_PATHS_MAX: usize = 512;

/// Longest body of a request that is a list of paths, in bytes: all of them of the length Linux allows (`PATH_MAX`),
/// each with its own length in front. An element takes more room in memory than on the wire, hence the extra bound.
pub const PATHS_BODY_MAX: usize = DIGEST_PATHS_MAX * (4096 + 2) + 8;

/// Why bytes are not a message, or a message not a frame.
#[derive(Debug, Error)]
pub enum MessageError {
    #[error("the frame header is not valid")]
    Frame(#[source] FrameError),
    #[error("no message has kind {0}")]
    UnknownKind(u8),
    #[error("the body of a message of kind {kind} does not decode")]
    Body {
        kind: u8,
        #[source]
        source: postcard::Error,
    },
    #[error("{0} bytes follow the end of the message")]
    TrailingBytes(usize),
    #[error("a list of paths of {0} bytes is over the limit of {PATHS_BODY_MAX}")]
    PathsTooLong(usize),
    #[error("{len} bytes in a message of kind {kind} are over the limit of {max}")]
    TooLong { kind: u8, len: usize, max: usize },
    #[error("the body of a message of kind {kind} is too short")]
    Short { kind: u8 },
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const IDENTIFY: u8 = 2;
    pub(super) const EXEC: u8 = 3;
    pub(super) const PING: u8 = 4;
    pub(super) const POWER_OFF: u8 = 5;
    pub(super) const CLOCK: u8 = 6;
    pub(super) const INVENTORY: u8 = 7;
    pub(super) const DIGESTS_OF: u8 = 8;
    pub(super) const FOLLOW: u8 = 9;
    pub(super) const CANCEL: u8 = 48;
    pub(super) const RESUME: u8 = 49;
    pub(super) const ROOM: u8 = 56;

    pub(super) const WELCOME: u8 = 65;
    pub(super) const READY: u8 = 66;
    pub(super) const DONE: u8 = 67;
    pub(super) const STDOUT: u8 = 68;
    pub(super) const STDERR: u8 = 69;
    pub(super) const EXIT: u8 = 70;
    pub(super) const FAILED: u8 = 71;
    pub(super) const ENTRIES: u8 = 72;
    pub(super) const DIGESTS: u8 = 73;
    pub(super) const DROPPED: u8 = 74;
    pub(super) const TIME: u8 = 75;
    pub(super) const CARRIED: u8 = 76;
    pub(super) const RESUMED: u8 = 112;
    pub(super) const ROOM_LEFT: u8 = 120;
}

impl Request {
    /// A whole frame.
    ///
    /// # Errors
    /// The code is longer than a frame can carry, or the paths are than [`PATHS_BODY_MAX`].
    pub fn encode(&self) -> Decoded<Vec<u8>> {
        let from = Direction::HostToGuest;
        match self {
            Self::Hello { version } => packed(kind::HELLO, version, from),
            Self::Identify(identity) => packed(kind::IDENTIFY, identity, from),
            Self::Exec(exec) => packed(kind::EXEC, exec, from),
            Self::Ping => framed(kind::PING, &[], from),
            Self::PowerOff => framed(kind::POWER_OFF, &[], from),
            Self::Clock { forward_ns } => packed(kind::CLOCK, forward_ns, from),
            Self::Inventory(inventory) => packed(kind::INVENTORY, inventory, from).and_then(bounded),
            Self::Digests { paths } => packed(kind::DIGESTS_OF, paths, from).and_then(bounded),
            Self::Follow => framed(kind::FOLLOW, &[], from),
            Self::Cancel => framed(kind::CANCEL, &[], from),
            Self::Resume(resume) => packed(kind::RESUME, resume, from),
            Self::Room { leave_bytes } => packed(kind::ROOM, leave_bytes, from),
            Self::Pty(pty) => pty.encode(),
            Self::File(request) => request.encode(),
            Self::Port(request) => request.encode(),
        }
    }

    /// Reads the body of a frame that came from the host.
    ///
    /// # Errors
    /// An unknown kind, a body that does not decode, or bytes after its end.
    pub fn decode(kind: u8, body: &[u8]) -> Decoded<Self> {
        match kind {
            kind::HELLO => Ok(Self::Hello {
                version: unpacked(kind, body)?,
            }),
            kind::IDENTIFY => Ok(Self::Identify(unpacked(kind, body)?)),
            kind::EXEC => Ok(Self::Exec(unpacked(kind, body)?)),
            kind::PING => empty(body).map(|()| Self::Ping),
            kind::POWER_OFF => empty(body).map(|()| Self::PowerOff),
            kind::CLOCK => Ok(Self::Clock {
                forward_ns: unpacked(kind, body)?,
            }),
            kind::INVENTORY | kind::DIGESTS_OF if body.len() > PATHS_BODY_MAX => {
                Err(MessageError::PathsTooLong(body.len()))
            }
            kind::INVENTORY => Ok(Self::Inventory(unpacked(kind, body)?)),
            kind::DIGESTS_OF => Ok(Self::Digests {
                paths: unpacked(kind, body)?,
            }),
            kind::FOLLOW => empty(body).map(|()| Self::Follow),
            kind::CANCEL => empty(body).map(|()| Self::Cancel),
            kind::RESUME => Ok(Self::Resume(unpacked(kind, body)?)),
            kind::ROOM => Ok(Self::Room {
                leave_bytes: unpacked(kind, body)?,
            }),
            pty if PtyRequest::KINDS.contains(&pty) => PtyRequest::decode(pty, body).map(Self::Pty),
            port if PortRequest::KINDS.contains(&port) => PortRequest::decode(port, body).map(Self::Port),
            kind if files::REQUEST_KINDS.contains(&kind) => FileRequest::decode(kind, body).map(Self::File),
            unknown => Err(MessageError::UnknownKind(unknown)),
        }
    }
}

impl Reply {
    /// A whole frame.
    ///
    /// # Errors
    /// Output longer than a frame can carry; cut it to [`crate::frame::OUTPUT_PIECE_MAX`].
    pub fn encode(&self) -> Decoded<Vec<u8>> {
        let from = Direction::GuestToHost;
        match self {
            Self::Welcome(welcome) => packed(kind::WELCOME, welcome, from),
            Self::Ready(ready) => packed(kind::READY, ready, from),
            Self::Done => framed(kind::DONE, &[], from),
            Self::Stdout(bytes) => framed(kind::STDOUT, bytes, from),
            Self::Stderr(bytes) => framed(kind::STDERR, bytes, from),
            Self::Exit(exit) => packed(kind::EXIT, exit, from),
            Self::Failed(failure) => packed(kind::FAILED, failure, from),
            Self::Entries(entries) => packed(kind::ENTRIES, entries, from),
            Self::Digests(digests) => packed(kind::DIGESTS, digests, from),
            Self::Dropped { bytes } => packed(kind::DROPPED, bytes, from),
            Self::Time { wall_clock_ns } => packed(kind::TIME, wall_clock_ns, from),
            Self::Carried(carried) => packed(kind::CARRIED, carried, from),
            Self::Resumed(resumed) => packed(kind::RESUMED, resumed, from),
            Self::Room(room) => packed(kind::ROOM_LEFT, room, from),
            Self::Pty(pty) => pty.encode(),
            Self::File(reply) => reply.encode(),
            Self::Port(reply) => reply.encode(),
        }
    }

    /// Reads the body of a frame that came from the guest.
    ///
    /// # Errors
    /// An unknown kind, a body that does not decode, or bytes after its end.
    pub fn decode(kind: u8, body: Vec<u8>) -> Decoded<Self> {
        match kind {
            kind::WELCOME => Ok(Self::Welcome(unpacked(kind, &body)?)),
            kind::READY => Ok(Self::Ready(unpacked(kind, &body)?)),
            kind::DONE => empty(&body).map(|()| Self::Done),
            kind::STDOUT => Ok(Self::Stdout(body)),
            kind::STDERR => Ok(Self::Stderr(body)),
            kind::EXIT => Ok(Self::Exit(unpacked(kind, &body)?)),
            kind::FAILED => Ok(Self::Failed(unpacked(kind, &body)?)),
            kind::ENTRIES => Ok(Self::Entries(unpacked(kind, &body)?)),
            kind::DIGESTS => Ok(Self::Digests(unpacked(kind, &body)?)),
            kind::DROPPED => Ok(Self::Dropped {
                bytes: unpacked(kind, &body)?,
            }),
            kind::TIME => Ok(Self::Time {
                wall_clock_ns: unpacked(kind, &body)?,
            }),
            kind::CARRIED => Ok(Self::Carried(unpacked(kind, &body)?)),
            kind::RESUMED => Ok(Self::Resumed(unpacked(kind, &body)?)),
            kind::ROOM_LEFT => Ok(Self::Room(unpacked(kind, &body)?)),
            pty if PtyReply::KINDS.contains(&pty) => PtyReply::decode(pty, body).map(Self::Pty),
            port if PortReply::KINDS.contains(&port) => PortReply::decode(port, &body).map(Self::Port),
            kind if files::REPLY_KINDS.contains(&kind) => FileReply::decode(kind, body).map(Self::File),
            unknown => Err(MessageError::UnknownKind(unknown)),
        }
    }
}

pub(crate) fn packed<T: Serialize>(kind: u8, message: &T, from: Direction) -> Decoded<Vec<u8>> {
    // Room for the header is made first, so that the body is serialised in place and a large one is not copied.
    let mut frame = postcard::to_extend(message, vec![0; HEADER_LEN])
        .map_err(|source| MessageError::Body { kind, source })?;
    let header = Header {
        kind,
        body_len: frame.len() - HEADER_LEN,
    };
    frame[..HEADER_LEN].copy_from_slice(&header.encode(from).map_err(MessageError::Frame)?);
    Ok(frame)
}

/// Refuses a list of paths that the other side would.
fn bounded(frame: Vec<u8>) -> Decoded<Vec<u8>> {
    let len = frame.len() - HEADER_LEN;
    if len > PATHS_BODY_MAX {
        return Err(MessageError::PathsTooLong(len));
    }
    Ok(frame)
}

pub(crate) fn framed(kind: u8, body: &[u8], from: Direction) -> Decoded<Vec<u8>> {
    let header = Header {
        kind,
        body_len: body.len(),
    };
    let mut frame = Vec::with_capacity(HEADER_LEN + body.len());
    frame.extend_from_slice(&header.encode(from).map_err(MessageError::Frame)?);
    frame.extend_from_slice(body);
    Ok(frame)
}

pub(crate) fn unpacked<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Decoded<T> {
    let (message, rest) =
        postcard::take_from_bytes(body).map_err(|source| MessageError::Body { kind, source })?;
    empty(rest).map(|()| message)
}

pub(crate) fn empty(rest: &[u8]) -> Decoded<()> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(MessageError::TrailingBytes(rest.len()))
    }
}

#[cfg(test)]
mod tests;

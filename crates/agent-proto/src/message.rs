//! The messages inside frames.
//!
//! Output is carried as raw bytes; everything else is postcard. Encoding gives a whole frame, header included;
//! decoding takes a header's kind and its complete body.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::frame::{Direction, FrameError, HEADER_LEN, Header};

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// First on every connection; answered with [`Reply::Welcome`].
    Hello { version: u16 },
    /// Who this VM is from now on; answered with [`Reply::Done`] once all of it has taken effect.
    Identify(Identity),
    /// Run code; answered with output and then [`Reply::Exit`].
    Exec(ExecRequest),
    /// Are you alive; answered with [`Reply::Done`].
    Ping,
    /// Stop everything, sync and power off; answered with [`Reply::Done`] when it has begun.
    PowerOff,
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
    /// Wall clock, nanoseconds since the Unix epoch.
    pub wall_clock_ns: u64,
    /// Fresh randomness for the kernel's pool and for user space.
    pub entropy: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub language: Language,
    /// Counted from the start of the run, not from its place in the queue.
    pub timeout_ms: Option<u64>,
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
}

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
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const IDENTIFY: u8 = 2;
    pub(super) const EXEC: u8 = 3;
    pub(super) const PING: u8 = 4;
    pub(super) const POWER_OFF: u8 = 5;

    pub(super) const WELCOME: u8 = 65;
    pub(super) const READY: u8 = 66;
    pub(super) const DONE: u8 = 67;
    pub(super) const STDOUT: u8 = 68;
    pub(super) const STDERR: u8 = 69;
    pub(super) const EXIT: u8 = 70;
    pub(super) const FAILED: u8 = 71;
}

impl Request {
    /// A whole frame.
    ///
    /// # Errors
    /// The code is longer than a frame can carry.
    pub fn encode(&self) -> Decoded<Vec<u8>> {
        let from = Direction::HostToGuest;
        match self {
            Self::Hello { version } => packed(kind::HELLO, version, from),
            Self::Identify(identity) => packed(kind::IDENTIFY, identity, from),
            Self::Exec(exec) => packed(kind::EXEC, exec, from),
            Self::Ping => framed(kind::PING, &[], from),
            Self::PowerOff => framed(kind::POWER_OFF, &[], from),
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
            unknown => Err(MessageError::UnknownKind(unknown)),
        }
    }
}

fn packed<T: Serialize>(kind: u8, message: &T, from: Direction) -> Decoded<Vec<u8>> {
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

fn framed(kind: u8, body: &[u8], from: Direction) -> Decoded<Vec<u8>> {
    let header = Header {
        kind,
        body_len: body.len(),
    };
    let mut frame = Vec::with_capacity(HEADER_LEN + body.len());
    frame.extend_from_slice(&header.encode(from).map_err(MessageError::Frame)?);
    frame.extend_from_slice(body);
    Ok(frame)
}

fn unpacked<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Decoded<T> {
    let (message, rest) =
        postcard::take_from_bytes(body).map_err(|source| MessageError::Body { kind, source })?;
    empty(rest).map(|()| message)
}

fn empty(rest: &[u8]) -> Decoded<()> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(MessageError::TrailingBytes(rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(frame: &[u8], from: Direction) -> (u8, Vec<u8>) {
        let header = Header::decode(frame[..HEADER_LEN].try_into().unwrap(), from).unwrap();
        assert_eq!(header.body_len, frame.len() - HEADER_LEN);
        (header.kind, frame[HEADER_LEN..].to_vec())
    }

    fn request() -> impl Strategy<Value = Request> {
        let identity = (".*", any::<[u8; 16]>(), any::<u64>(), any::<[u8; 32]>());
        prop_oneof![
            any::<u16>().prop_map(|version| Request::Hello { version }),
            identity.prop_map(|(hostname, machine_id, wall_clock_ns, entropy)| {
                Request::Identify(Identity {
                    hostname,
                    machine_id,
                    wall_clock_ns,
                    entropy,
                })
            }),
            (any::<bool>(), any::<Option<u64>>(), ".*").prop_map(|(python, timeout_ms, code)| {
                let language = if python { Language::Python } else { Language::Bash };
                Request::Exec(ExecRequest {
                    language,
                    timeout_ms,
                    code,
                })
            }),
            Just(Request::Ping),
            Just(Request::PowerOff),
        ]
    }

    fn reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            (any::<u16>(), ".*").prop_map(|(version, build)| Reply::Welcome(Welcome { version, build })),
            (any::<u16>(), any::<u64>())
                .prop_map(|(version, uptime_ms)| Reply::Ready(Ready { version, uptime_ms })),
            Just(Reply::Done),
            any::<Vec<u8>>().prop_map(Reply::Stdout),
            any::<Vec<u8>>().prop_map(Reply::Stderr),
            any::<i32>().prop_map(|code| Reply::Exit(Exit { code })),
            ".*".prop_map(|message| Reply::Failed(Failure {
                code: FailureCode::Busy,
                message
            })),
        ]
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(request in request()) {
            let (kind, body) = split(&request.encode().unwrap(), Direction::HostToGuest);
            prop_assert_eq!(Request::decode(kind, &body).unwrap(), request);
        }

        #[test]
        fn replies_survive_the_wire(reply in reply()) {
            let (kind, body) = split(&reply.encode().unwrap(), Direction::GuestToHost);
            prop_assert_eq!(Reply::decode(kind, body).unwrap(), reply);
        }

        #[test]
        fn arbitrary_bytes_never_panic_the_decoders(kind: u8, body: Vec<u8>) {
            drop(Request::decode(kind, &body));
            drop(Reply::decode(kind, body));
        }
    }

    #[test]
    fn bytes_after_a_message_are_refused() {
        assert!(matches!(
            Request::decode(kind::PING, &[0]),
            Err(MessageError::TrailingBytes(1))
        ));
        let (kind, mut body) = split(
            &Request::Hello { version: 1 }.encode().unwrap(),
            Direction::HostToGuest,
        );
        body.push(7);
        assert!(matches!(
            Request::decode(kind, &body),
            Err(MessageError::TrailingBytes(1))
        ));
    }
}

//! What the host and the agent inside a guest say to each other.
//!
//! A connection is a byte stream (vsock in a VM, a Unix socket in tests) that carries [frames](frame). It serves
//! **one request at a time** and is reused for many; closing it cancels the request in progress, but for a run, which
//! [`Request::Cancel`] does. There is no multiplexing, so a slow reader slows its own run and nobody else's. A connection
//! to a [port](PortRequest) of the guest becomes that connection, and carries frames no more.
//!
//! ```text
//! host                                   agent
//!  │ Hello{version}                        │   once per connection
//!  │                      Welcome{version} │
//!  │ Exec{language, code, timeout}         │
//!  │             Stdout(bytes)… Stderr(…)… │   as it happens
//!  │                            Exit{code} │   the connection is free again
//! ```
//!
//! A connection that is reset, and not closed, means to the agent that its machine has been cloned: the run in progress
//! goes on without a client, see [`Request::Follow`]. One that is closed without a [`Request::Cancel`] means that its host
//! is gone: the same, see [`Request::Resume`].
//!
//! A request that cannot be carried out is answered with [`Reply::Failed`], after which the connection is free
//! too. A frame that breaks the protocol ends the connection. Both sides treat the other as hostile: lengths are
//! capped before anything is allocated, and a frame is decoded whole before any of it is acted on.
//!
//! This crate must not know sockets, threads or what a run does.
#![forbid(unsafe_code)]

pub mod files;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod message;
mod ports;
mod pty;

pub use frame::{Direction, FrameError, HEADER_LEN, Header};
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::fuzz_messages;
pub use message::{
    Carried, DIGEST_PATHS_MAX, Decoded, ENTRIES_BODY_MAX, Entry, EntryKind, ExecRequest, Exit, Failure,
    FailureCode, Identity, Inventory, Language, MessageError, PATHS_BODY_MAX, Ready, Reply, Request, Resume,
    Resumed, Room, TRACEPARENT_BYTES_MAX, Welcome,
};
pub use ports::{COMMAND_BYTES_MAX, LISTENING_MAX, Listener, Listening, PortReply, PortRequest};
pub use pty::{
    PTY_CREATE_BODY_MAX, PTY_INPUT_MAX, PTY_KEPT_BYTES, PTY_LABEL_MAX, PTY_OUTPUT_MAX, PTY_SIDE_MAX,
    PTY_WAIT_MS_MAX, PtyCreate, PtyName, PtyProgram, PtyRead, PtyReply, PtyRequest, PtySession, PtySize,
};

/// Protocol version; both sides refuse another one. Raise it with any change of frames or messages.
pub const VERSION: u16 = 5;

/// vsock port on which the agent listens in the guest.
pub const AGENT_PORT: u32 = 1024;

/// vsock port on the host (CID 2) that the agent connects to once, to say [`Ready`].
pub const READY_PORT: u32 = 1025;

//! Files of a sandbox, as conversations with its agent.
//!
//! ```text
//!  Conversation ──▶ one reply (stat, remove, …)
//!   ├─▶ Download ......... content, polled by whoever sends the response
//!   ├─▶ Upload ........... pieces in, then a commit
//!   └─▶ Watching ......... changes as lines
//! ```
//!
//! Each has a connection of its own, so nothing queues behind a run, and a client that reads slowly, or not at all, slows
//! nothing but its own transfer. Dropping one ends it in the guest, where it leaves nothing.

mod conversation;
mod download;
mod info;
mod upload;
mod watching;

pub(crate) use conversation::{Conversation, FilesError};
pub(crate) use download::Download;
pub(crate) use info::{file_info, list};
pub(crate) use upload::{Upload, UploadError, Uploaded};
pub(crate) use watching::Watching;

/// Most transfers, watches and other file requests of one sandbox at once; its agent has a thread for each.
pub(crate) const PER_SANDBOX_MAX: usize = 32;

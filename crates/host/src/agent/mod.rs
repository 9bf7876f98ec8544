//! Talking to the agent inside a guest. The agent is hostile: all it sends is bounded and decoded before use.

mod connection;
mod handshake;
mod listing;

pub(crate) use connection::{AgentConnection, AgentError};
pub(crate) use handshake::{connect, introduce, read_ready, set_clock};
pub(crate) use listing::{Listing, digests};

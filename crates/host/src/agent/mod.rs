//! Talking to the agent inside a guest. The agent is hostile: all it sends is bounded and decoded before use.

mod connection;
mod handshake;
mod listing;
mod time;

pub(crate) use connection::{AgentConnection, AgentError};
pub(crate) use handshake::{check_clock, connect, introduce, read_ready};
pub(crate) use listing::{Listing, digests};
pub(crate) use time::Clock;

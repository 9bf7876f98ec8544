//! What a wire's guest reached, and what it was refused.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Entries kept for each wire; the oldest go first.
pub const LOG_ENTRIES_MAX: usize = 512;

/// A part of a wire's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// By ascending number.
    pub entries: Vec<LogEntry>,
    /// Number of the oldest entry that is kept, or of the next one when none is: what was asked for and is before it is gone.
    pub oldest: u64,
    /// Number of the newest entry ever written; 0 when there was none.
    pub newest: u64,
}

/// One connection, one flow of UDP, or one refused question about a name. Written when it is judged; while it is open its
/// counts grow. Refusals that repeat themselves are one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// From 1, without gaps.
    pub seq: u64,
    /// When it began, or was refused last, in milliseconds since 1970.
    pub at_ms: u64,
    /// The name that it was for: proven, or else asked of our resolver shortly before, as far as one is known.
    pub name: Option<String>,
    /// What it was for, or was connected to. None for a name that was not resolved.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub protocol: Protocol,
    pub verdict: Verdict,
    /// Why it was refused or failed, in words.
    pub reason: Option<String>,
    /// Payload to the outside and back.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// How often: more than once only for refusals.
    pub times: u64,
    pub open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
    /// A question to the gateway's resolver.
    Dns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allowed,
    /// By the policy.
    Denied,
    /// Allowed, but the other side could not be reached, or a limit was met.
    Failed,
}

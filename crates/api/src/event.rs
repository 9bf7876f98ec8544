//! One line of an `exec` stream, as a client reads it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Always exactly these four keys. Bare newlines between events are heartbeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: EventKind,
    pub data: EventData,
    /// Counts up from 0 in each exec.
    pub seq: u64,
    /// The host's clock, milliseconds since the Unix epoch.
    pub ts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Stdout,
    Stderr,
    /// The last event; the body ends right after it.
    Exit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EventData {
    /// Of an [`EventKind::Exit`]: 0 success, 1 exception, 128+n death by signal n, or what the code asked for.
    Code(i32),
    /// Of output: one line without its newline.
    Line(String),
}

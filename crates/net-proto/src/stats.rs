//! Counts of the network process.

use serde::{Deserialize, Serialize};

use crate::WireId;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetStats {
    /// Of all wires there ever were.
    pub totals: Counters,
    /// By ascending id: all, or the one asked for.
    pub wires: Vec<WireStats>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireStats {
    pub wire: WireId,
    pub counters: Counters,
}

/// All but the first two only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Now open, connections being made included.
    pub tcp_open: u64,
    pub udp_open: u64,
    pub tcp_flows: u64,
    pub udp_flows: u64,
    /// Payload to the outside and back.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Connections, packets and questions that the policy refused.
    pub denied: u64,
    /// Connections that could not be made.
    pub failed: u64,
    pub dns_queries: u64,
    /// From the guest, and to it.
    pub frames_up: u64,
    pub frames_down: u64,
    /// Frames that were not understood, not allowed, or for which there was no room.
    pub dropped: u64,
}

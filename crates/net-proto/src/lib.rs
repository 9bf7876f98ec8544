//! What the host daemon and the network process say to each other, and what all who share a wire must agree on.
//!
//! Messages are as in `vmm-proto`: JSON behind a 4-byte little-endian length. The daemon sends [`Request`]s over the
//! network process's Unix socket; each is answered by a [`Reply`] of the same id, in order. Daemons come and go: wires
//! belong to the network process and go on, and [`Command::Hello`] tells the next daemon which there are.
//!
//! A **wire** is a connected pair of `AF_UNIX` `SOCK_SEQPACKET` sockets between a VM process and the network process.
//! One message is one Ethernet frame, without a checksum of its own and at most [`FRAME_BYTES_MAX`] long. Checksums of TCP
//! and UDP need not be filled in, either way: nothing on the way can damage a frame.
//!
//! This crate must not know sockets, packets, sandboxes or virtual machines.
#![forbid(unsafe_code)]

mod address;
mod codec;
mod log;
mod message;
mod secret;
mod stats;

pub use address::{
    DNS_PORT, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_MAC, GUEST_IPV4,
    GUEST_IPV6, GUEST_MAC, MTU, PREFIX_BITS_IPV4, PREFIX_BITS_IPV6,
};
pub use codec::{MESSAGE_MAX, decode, encode};
pub use log::{LOG_ENTRIES_MAX, LogEntry, LogPage, Protocol, Verdict};
pub use message::{Attach, Command, Outcome, Reply, Request, WireId};
pub use pod_types::{CodecError, LEN_BYTES};
pub use secret::{PLACEHOLDER_BYTES_MIN, SECRET_BYTES_MAX, SECRETS_MAX, Secret, SecretValue};
pub use stats::{Counters, NetStats, WireStats};

/// Protocol version; carried in every [`Request`], and another one is refused.
pub const VERSION: u16 = 1;

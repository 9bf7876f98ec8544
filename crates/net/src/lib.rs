//! The network of all sandboxes of a host, in user space: frames of guests in, ordinary sockets out.
//!
//! ```text
//!  VM ══ wire ══▶ packet ─┬─ who has, echo ──▶ answers
//!                         ├─ TCP ──▶ flow (smoltcp ◀─▶ socket to the outside, or to `secrets`, which has one)
//!                         ├─ UDP ──▶ a socket for each pair of ends
//!                         └─ questions about names ──▶ dns ──▶ the host's resolvers
//!  daemon ── control ──▶ attach, policy, log, counts
//! ```
//!
//! One thread waits for everything and does everything but TLS: connections with secrets have a thread of their own, to
//! which the loop hands one end of a socket pair. There is no lock that anybody waits for. What
//! a turn does for one wire is bounded, and so is what a wire may hold. Guests are hostile, and so is what comes from outside.
//!
//! In reading order: [`link`](self) and `packet`, `answers`; `stack` and `flow`; `wire`; `dns`; `secrets`; `network` and `control`.
//!
//! This crate must not know sandboxes, virtual machines or HTTP beyond the first head of a connection, except in
//! `secrets`.
#![forbid(unsafe_code)]

mod answers;
mod link;
mod packet;

mod flow;
mod head;
mod hello;
mod outside;
mod stack;

mod dns;
mod journal;
mod memory;
mod wire;

mod secrets;

mod poll;
mod share;
mod timers;
mod world;

mod control;
mod network;
mod own;

#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;

pub use dns::Servers;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::{fuzz_dns, fuzz_first_bytes, fuzz_frames};
pub use network::{Network, NetworkError, Settings, guest_ranges};
pub use secrets::{
    Authority, AuthorityError, AuthorityPem, TerminatorError, Trust, TrustError, generate_authority,
};
pub use share::BUFFER_BYTES_MAX;

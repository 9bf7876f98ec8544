//! The network of all sandboxes of a host, in user space: frames of guests in, ordinary sockets out.
//!
//! ```text
//!  VM ══ wire ══▶ packet ─┬─ who has, echo ──▶ answers
//!                         ├─ TCP ──▶ flow (smoltcp ◀─▶ socket to the outside)
//!                         ├─ UDP ──▶ a socket for each pair of ends
//!                         └─ questions about names ──▶ dns ──▶ the host's resolvers
//!  daemon ── control ──▶ attach, policy, log, counts
//! ```
//!
//! One thread waits for everything and does everything; there is no lock and nothing is passed between threads. What
//! a turn does for one wire is bounded, and so is what a wire may hold. Guests are hostile, and so is what comes from outside.
//!
//! In reading order: [`link`](self) and `packet`, `answers`; `stack` and `flow`; `wire`; `dns`; `network` and `control`.
//!
//! This crate must not know sandboxes, virtual machines or HTTP beyond the first head of a connection.
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

mod poll;
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

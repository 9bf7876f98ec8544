//! What a sandbox may reach: policies, their rules, and what they say about an address or a name.
//!
//! ```text
//!  Policy::Open ──▶ everything public             (Ranges says what is not)
//!  Policy::List ──▶ what a rule allows, none denies: networks by address, names by proof
//!  Policy::Closed ▶ nothing
//! ```
//!
//! A rule for a network is about the address a guest connects to. A rule for a name is about a name that was *proven*:
//! asked of our resolver, said in a TLS handshake or an HTTP request, and resolved by us. Whoever judges an
//! address gets [`Verdict::NameNeeded`] when only a name could allow it.
//!
//! This crate must not know sockets, packets, clocks or sandboxes; it depends on no other crate of ours.
#![forbid(unsafe_code)]

mod name;
mod rule;

mod policy;
mod ranges;

mod judge;

pub use judge::{NameVerdict, Reason, Verdict};
pub use name::{InvalidName, NAME_BYTES_MAX, Name};
pub use policy::{InvalidPolicy, List, Policy, RULES_MAX};
pub use ranges::{Class, Ranges};
pub use rule::{InvalidRule, NameRule, NetRule, Rule};

/// How something is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Tcp,
    Udp,
}

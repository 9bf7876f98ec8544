//! Words every part of Podflare shares: typed ids, tiers, and the one way to print an error chain.
//!
//! This crate must not know HTTP, KVM, files or time. It sits below everything else.
#![forbid(unsafe_code)]

mod error_chain;
mod id;
mod tier;

pub use error_chain::ErrorChain;
pub use id::{IdError, PtyId, SandboxId};
pub use tier::{Limit, Limits, Overrides, Tier, UnknownName};

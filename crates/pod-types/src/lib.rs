//! Words every part of Podflare shares: typed ids, tiers, the framing of messages between
//! processes, and the one way to print an error chain.
//!
//! This crate must not know HTTP, KVM, files or time. It sits below everything else.
#![forbid(unsafe_code)]

mod error_chain;
mod framing;
mod id;
mod tier;

pub use error_chain::ErrorChain;
pub use framing::{CodecError, Framing, LEN_BYTES};
pub use id::{CheckpointId, IdError, PtyId, SandboxId, SpaceId, WebhookId};
pub use tier::{Limit, Limits, Overrides, Tier, UnknownName};

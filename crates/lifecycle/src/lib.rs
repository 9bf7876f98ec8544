//! What may happen to a sandbox, and when. Nothing here happens by itself: no I/O, no clock, no lock, no async.
//!
//! ```text
//!            booted            end              gone
//!  Booting ─────────▶ Ready ─────────▶ Ending ────────▶ Gone
//!     │                 │                 ▲
//!     │ end             │ fail            │
//!     │                 ▼                 │
//!     │              Failed ──────────────┤
//!     └───────────────────────────────────┘
//! ```
//!
//! A sandbox is created booting and handed to its client when it is ready. Runs are accepted only then, and only so
//! many at once. When its VM dies it has *failed*: it stays known, so that its client learns why, until it is
//! deleted. A boot that fails *ends* the sandbox, since no client knows it yet. Ending means that its resources are
//! being given back; nothing is accepted any more and the reason does not change.
//!
//! This crate must not know HTTP, VMs, processes or time.
#![forbid(unsafe_code)]

mod machine;

pub use machine::{EndReason, Machine, Phase, RunRefused, TransitionRefused};

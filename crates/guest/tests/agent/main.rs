//! The real services over a Unix socket, with the system's own Python and bash.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod ask;
mod bash;
mod cloned;
mod content;
mod death;
mod figures;
mod files;
mod identity;
mod interrupt;
mod orphaned;
mod output;
mod ports;
mod protocol;
mod pty;
mod pty_followers;
mod python;
mod queue;
mod rig;
mod snippets;
mod streams;
mod terminal;
mod tracing;
mod transport;
mod trees;
mod watching;

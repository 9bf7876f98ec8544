//! The agent's services: run Python and bash, hold terminals, lead to what listens, and become somebody else after a
//! clone.
//!
//! The services know no transport: [`Services::serve`] takes connected byte streams from a [`Listener`], which is a
//! Unix socket in tests and vsock in a guest. What needs privileges over the whole machine is behind [`System`].
//!
//! ```text
//! serve ──► connection ──► queue ──► run::pump ◄──► repl (one Python process, supervised)
//!   one thread each     one run at a time    ◄──► bash (one process per run)
//! ```
//!
//! A run is driven by the thread of its connection, which polls the run's two pipes, the connection and the process
//! together, so nothing is handed from thread to thread on the way of a byte. Synchronous throughout: PID 1 in a
//! clone touches as little memory as it can.
//!
//! This crate must not know HTTP, KVM or anything of the host beyond `agent-proto`, and who is who on a wire.
#![deny(unsafe_code)] // One expectation, in `syscall`.

mod serve;
mod services;
mod warm_up;

mod carried;
mod connection;
mod inbox;
mod queue;

mod bash;
mod ports;
mod pty;
mod repl;
mod run;

mod children;
mod disk_room;
mod drain;
mod processes;

mod files;
mod identity;
pub mod init;
mod poll;
mod syscall;
mod write_back;

pub use children::Reaping;
pub use connection::Stream;
pub use files::answer_file_request;
pub use identity::{Guest, IdentityError, Native, System};
#[cfg(any(test, feature = "fuzzing"))]
pub use inbox::fuzz_inbox;
pub use ports::answer_port_request;
pub use serve::{Listener, announce};
pub use services::{Config, Services, StartError};
pub use write_back::WriteBack;

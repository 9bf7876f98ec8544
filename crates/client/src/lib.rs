//! The HTTP API as functions: what the command line, the tests and Rust programs call.
//!
//! Reading order: an [`Endpoint`] says where a host is and with which key, a [`Client`] has one method for each
//! route, an [`ExecStream`] is the output of one run while it happens, and [`ClientError`] is why a call failed,
//! in words that can be shown as they are.
//!
//! Everything is synchronous. This crate must not know how a host is started, where its files are, or how output
//! is shown.
#![forbid(unsafe_code)]

mod admin;
mod client;
mod endpoint;
mod error;
mod exec;
mod files;
mod lines;
mod ports;
mod pty;
#[cfg(any(test, feature = "scripted"))]
pub mod scripted;
mod secrets;
mod spaces;
mod transport;
mod webhooks;

#[cfg(test)]
mod tests;

pub use client::Client;
pub use endpoint::{DEFAULT_URL, Endpoint, EndpointError, EndpointSources, names_a_host};
pub use error::{ClientError, Refusal};
pub use exec::ExecStream;
pub use files::WriteOptions;
pub use pty::PtyStream;

//! HTTP over the [host](crate::Host).
//!
//! A request passes the [front](front) (prefix, trace context, key), the router, and one handler. Handlers take
//! typed input, call the host and convert the result; errors become responses in one place, [error](error).

mod access;
mod admin;
mod audit;
mod body;
mod browser;
mod checkpoints;
mod diff;
mod documents;
mod egress;
mod error;
mod exec;
mod exec_body;
mod fates;
mod files;
mod forks;
mod front;
mod frozen_hint;
mod metrics;
mod patient;
mod ports;
mod pty;
mod pty_body;
mod pty_socket;
mod ready;
mod replay;
mod routes;
mod sandboxes;
mod secrets;
mod server;
mod space_errors;
mod spaces;
mod stall;
mod status;
mod terminal_page;
mod transfers;
mod unread;
mod usage;
mod webhooks;

pub use front::Api;
pub use server::{serve, serve_metrics};

/// The paths of the router.
#[cfg(test)]
pub(crate) fn routed_paths() -> Vec<&'static str> {
    front::routes().paths().to_vec()
}

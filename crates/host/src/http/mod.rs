//! HTTP over the [host](crate::Host).
//!
//! A request passes the [front](front) (prefix, trace context, key), the router, and one handler. Handlers take
//! typed input, call the host and convert the result; errors become responses in one place, [error](error).

mod body;
mod diff;
mod error;
mod exec;
mod exec_body;
mod files;
mod forks;
mod front;
mod patient;
mod sandboxes;
mod server;
mod stall;
mod status;
mod trace_context;

pub use front::Api;
pub use server::serve;

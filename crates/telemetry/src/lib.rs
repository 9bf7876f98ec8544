//! What the host daemon tells the outside of itself, apart from metrics: [log lines](log), and on request
//! [traces and logs for a collector](otlp).
//!
//! ```text
//!  tracing ──▶ log:  one line of text or JSON per event, on standard error
//!          └─▶ otlp: spans and events, batched by threads of their own, sent over HTTP; dropped when that does not go
//! ```
//!
//! This crate must not know sandboxes, the HTTP server, or an async runtime.
#![forbid(unsafe_code)]

mod trace_context;

mod log;
mod otlp;

pub use log::{FIELD_BYTES_MAX, Format, lines, start};
pub use otlp::{Exporter, ExporterError, OtlpConfigError, OtlpSettings, context_of, join};
pub use trace_context::TraceContext;

//! Log lines on standard error: text for people, JSON for collectors.
//!
//! What guests and clients say gets into lines as fields. So a field is cut to [`FIELD_BYTES_MAX`], and whatever could
//! move a terminal's cursor, forge a line or turn its direction is escaped, in both formats.

mod fields;
mod json;
mod text;

use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::otlp::Exporter;

pub use fields::FIELD_BYTES_MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Logs to standard error from now on, and to the collector when there is one. A filter, e.g. `info,host=debug`, says what;
/// without one `RUST_LOG` does.
///
/// # Errors
/// Something else logs already.
pub fn start(format: Format, filter: Option<&str>, exporter: Option<&Exporter>) -> Result<(), TryInitError> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = match filter {
        Some(filter) => builder.parse_lossy(filter),
        None => builder.from_env_lossy(),
    };
    let lines = lines(format, std::io::stderr).with_filter(filter);
    let mut layers = vec![lines.boxed()];
    layers.extend(exporter.into_iter().flat_map(Exporter::layers));
    tracing_subscriber::registry().with(layers).try_init()
}

/// Writes each event as a line.
pub fn lines<S, W>(format: Format, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    match format {
        Format::Text => Box::new(layer.fmt_fields(text::TextFields).event_format(text::Text)),
        Format::Json => Box::new(layer.fmt_fields(json::JsonFields).event_format(json::Json)),
    }
}

#[cfg(test)]
mod tests;

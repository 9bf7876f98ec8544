//! Traces and logs for an OpenTelemetry collector, when the standard variables name one.
//!
//! Two threads of the SDK's own take batches from bounded queues and send them over HTTP in protobuf. A queue that is
//! full drops what comes next: a collector that is away or slow never delays a request. Nothing is installed when no
//! collector is named, and spans cost then what they cost without this module.

mod client;
mod settings;
mod spans;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use client::Client;

pub use settings::{OtlpConfigError, OtlpSettings};
pub use spans::{context_of, join};

/// What a collector calls this program unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE: &str = "podflare-hostd";

/// How long what is left may take to be sent at the end.
const CLOSE_BOUND: Duration = Duration::from_secs(2);

/// Whose spans and events are sent: ours. The libraries' own would tell of the sending itself.
const TARGETS: [&str; 2] = ["host", "podflare_hostd"];

#[derive(Debug, Error)]
pub enum ExporterError {
    #[error("cannot prepare the export to the collector")]
    Build(#[source] ExporterBuildError),
}

/// The way to the collector. To be closed at the end.
#[derive(Debug)]
pub struct Exporter {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl Exporter {
    /// Starts its threads. Does not wait for the collector, which may come later.
    ///
    /// # Errors
    /// The settings are not usable.
    pub fn start(settings: &OtlpSettings) -> Result<Self, ExporterError> {
        let client = || Client::new(settings.timeout);
        let resource = Resource::builder();
        let resource = if std::env::var_os("OTEL_SERVICE_NAME").is_some() {
            resource.build()
        } else {
            resource.with_service_name(SERVICE).build()
        };
        let traces = settings.traces.as_ref().map(|url| {
            let exporter = SpanExporter::builder()
                .with_http()
                .with_http_client(client())
                .with_endpoint(url)
                .build()?;
            Ok(SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(exporter)
                .build())
        });
        let logs = settings.logs.as_ref().map(|url| {
            let exporter = LogExporter::builder()
                .with_http()
                .with_http_client(client())
                .with_endpoint(url)
                .build()?;
            Ok(SdkLoggerProvider::builder()
                .with_resource(resource.clone())
                .with_batch_exporter(exporter)
                .build())
        });
        let exporter = Self {
            traces: traces.transpose().map_err(ExporterError::Build)?,
            logs: logs.transpose().map_err(ExporterError::Build)?,
        };
        if exporter.traces.is_some() {
            spans::begin();
        }
        Ok(exporter)
    }

    /// Hands spans and events over.
    pub fn layers<S>(&self) -> Vec<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = |level| Targets::new().with_targets(TARGETS.map(|target| (target, level)));
        let mut layers: Vec<Box<dyn Layer<S> + Send + Sync>> = Vec::new();
        if let Some(provider) = &self.traces {
            let spans = tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(SERVICE))
                .with_location(false)
                .with_threads(false);
            layers.push(Box::new(spans.with_filter(ours(LevelFilter::DEBUG))));
        }
        if let Some(provider) = &self.logs {
            let events = OpenTelemetryTracingBridge::new(provider);
            layers.push(Box::new(events.with_filter(ours(LevelFilter::INFO))));
        }
        layers
    }

    /// Sends what is left, within a bound. Blocks.
    pub fn close(self) {
        if let Some(traces) = self.traces {
            drop(traces.shutdown_with_timeout(CLOSE_BOUND));
        }
        if let Some(logs) = self.logs {
            drop(logs.shutdown_with_timeout(CLOSE_BOUND));
        }
    }
}

#[cfg(test)]
mod tests;

//! `podflare-hostd`: the daemon of one host.
//!
//! Read settings, log, listen, open the host, serve, wait for a signal, drain, exit. Nothing else happens here.
#![forbid(unsafe_code)]

mod run;

use std::error::Error;
use std::process::ExitCode;

use pod_types::ErrorChain;
use settings::File;
use settings::hostd::{LogFormat, Options};
use telemetry::{Exporter, Format, OtlpSettings};

fn main() -> ExitCode {
    let (options, file) = match Options::load() {
        Ok(loaded) => loaded,
        Err(error) => return refuse_unheard(&error),
    };
    let collector = match OtlpSettings::from_variables(|name| std::env::var(name).ok()) {
        Ok(collector) => collector,
        Err(error) => return refuse_unheard(&error),
    };
    let exporter = match collector.as_ref().map(Exporter::start).transpose() {
        Ok(exporter) => exporter,
        Err(error) => return refuse_unheard(&error),
    };
    let format = match options.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    if telemetry::start(format, options.log.as_deref(), exporter.as_ref()).is_err() {
        // Nothing else logs in this program, so there is nobody to tell either.
        return ExitCode::FAILURE;
    }
    tell_settings(file.as_ref(), collector.as_ref());
    let ended = run::run(options);
    if let Err(error) = &ended {
        tracing::error!("{}", ErrorChain(error));
    }
    if let Some(exporter) = exporter {
        exporter.close();
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn tell_settings(file: Option<&File>, collector: Option<&OtlpSettings>) {
    if let Some(file) = file {
        tracing::info!("settings from {}", file.path.display());
    }
    if let Some(OtlpSettings { traces, logs, .. }) = collector {
        tracing::info!(traces, logs, "telemetry goes to a collector");
    }
}

/// Before it is known how to log.
fn refuse_unheard(error: &(dyn Error + 'static)) -> ExitCode {
    drop(telemetry::start(Format::Text, None, None));
    tracing::error!("refusing to start: {}", ErrorChain(error));
    ExitCode::FAILURE
}

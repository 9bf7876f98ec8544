//! `podflare-hostd`: the daemon of one host.
//!
//! Parse, log, listen, open the host, serve, wait for a signal, drain, exit. Nothing else happens here.
#![forbid(unsafe_code)]

mod options;
mod run;

use std::process::ExitCode;

use clap::Parser as _;
use pod_types::ErrorChain;
use telemetry::{Exporter, OtlpSettings};

use options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    let settings = OtlpSettings::from_variables(|name| std::env::var(name).ok());
    let exporter = match &settings {
        Ok(Some(settings)) => Some(Exporter::start(settings)),
        Ok(None) | Err(_) => None,
    };
    let exporter = exporter.transpose();
    let logging = telemetry::start(
        options.log_format.into(),
        exporter.as_ref().ok().and_then(Option::as_ref),
    );
    if logging.is_err() {
        // Nothing else logs in this program, so there is nobody to tell either.
        return ExitCode::FAILURE;
    }
    let (settings, exporter) = match (settings, exporter) {
        (Err(error), _) => return refuse(&error),
        (_, Err(error)) => return refuse(&error),
        (Ok(settings), Ok(exporter)) => (settings, exporter),
    };
    if let Some(OtlpSettings { traces, logs, .. }) = &settings {
        tracing::info!(traces, logs, "telemetry goes to a collector");
    }
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

fn refuse(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    tracing::error!("refusing to start: {}", ErrorChain(error));
    ExitCode::FAILURE
}

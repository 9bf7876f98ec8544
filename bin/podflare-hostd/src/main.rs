//! `podflare-hostd`: the daemon of one host.
//!
//! Parse, log, listen, open the host, serve, wait for a signal, drain, exit. Nothing else happens here.
#![forbid(unsafe_code)]

mod logging;
mod run;

use std::process::ExitCode;

use pod_types::ErrorChain;
use settings::hostd::{LogFormat, Options};

fn main() -> ExitCode {
    let (options, file) = match Options::load() {
        Ok(loaded) => loaded,
        Err(error) => {
            logging::start(LogFormat::Text, None);
            tracing::error!("{}", ErrorChain(&error));
            return ExitCode::FAILURE;
        }
    };
    logging::start(options.log_format, options.log.as_deref());
    if let Some(file) = file {
        tracing::info!("settings from {}", file.path.display());
    }
    match run::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", ErrorChain(&error));
            ExitCode::FAILURE
        }
    }
}

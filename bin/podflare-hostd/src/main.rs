//! `podflare-hostd`: the daemon of one host.
//!
//! Parse, log, listen, open the host, serve, wait for a signal, drain, exit. Nothing else happens here.
#![forbid(unsafe_code)]

mod logging;
mod options;
mod run;

use std::process::ExitCode;

use clap::Parser as _;
use pod_types::ErrorChain;

use options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    logging::start(options.log_format);
    match run::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", ErrorChain(&error));
            ExitCode::FAILURE
        }
    }
}

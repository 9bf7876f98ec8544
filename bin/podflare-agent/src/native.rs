//! The agent as an ordinary process on a Unix socket. The machine it runs on is left alone: its name, clock and
//! randomness are not changed.

use std::env;
use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use guest::{Config, Native, Reaping, Services, StartError};
use pod_types::ErrorChain;
use thiserror::Error;

/// Run Python and bash for whoever connects.
///
/// In a guest the agent is PID 1 and takes no arguments. This is the same agent for tests and debugging; it isolates
/// nothing: what is sent to it runs as you.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Socket to listen on; a stale one is replaced.
    #[arg(long, value_name = "PATH")]
    unix: PathBuf,
    /// Python interpreter.
    #[arg(long, default_value = "/usr/bin/python3")]
    python: PathBuf,
    /// Working directory and HOME of what runs; the current directory by default.
    #[arg(long)]
    home: Option<PathBuf>,
    /// Load into the REPL at its start, e.g. `json` or, to bind a name, `numpy as np`; may be repeated.
    #[arg(long = "import", value_name = "NAME")]
    imports: Vec<String>,
}

#[derive(Debug, Error)]
enum NativeError {
    #[error("cannot tell the current directory")]
    CurrentDirectory(#[source] io::Error),
    #[error("another agent listens on {0}")]
    InUse(PathBuf),
    #[error("cannot listen on {path}")]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot start the services")]
    Services(#[source] StartError),
    #[error("cannot start the accepting thread")]
    Serve(#[source] io::Error),
}

pub(crate) fn run() -> ExitCode {
    match serve(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        #[expect(clippy::print_stderr, reason = "the edge where an error meets a person")]
        Err(error) => {
            eprintln!("podflare-agent: {}", ErrorChain(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Arguments) -> Result<(), NativeError> {
    let home = match arguments.home {
        Some(home) => home,
        None => env::current_dir().map_err(NativeError::CurrentDirectory)?,
    };
    let mut config = Config {
        python: arguments.python,
        imports: arguments.imports,
        ..Config::guest()
    };
    for (name, value) in &mut config.environment {
        match name.as_str() {
            "HOME" => *value = home.display().to_string(),
            "PATH" => *value = env::var("PATH").unwrap_or_else(|_| value.clone()),
            _ => {}
        }
    }
    config.home = home;
    let listener = listen(&arguments.unix)?;
    let services = Services::start(config, Native, Reaping::OwnOnly).map_err(NativeError::Services)?;
    services.serve(listener).map_err(NativeError::Serve)?;
    services.wait_for_power_off();
    services.stop();
    // The next agent replaces what cannot be removed now.
    let _ = fs::remove_file(&arguments.unix);
    Ok(())
}

fn listen(path: &PathBuf) -> Result<UnixListener, NativeError> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(NativeError::InUse(path.clone()));
    }
    let _ = fs::remove_file(path);
    UnixListener::bind(path).map_err(|source| NativeError::Listen {
        path: path.clone(),
        source,
    })
}

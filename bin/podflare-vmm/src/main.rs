//! The process of one VM.
//!
//! `run` is what the daemon starts; `probe` says whether this host can run VMs; `boot` runs a VM in the foreground and
//! `control` talks to a running one, for people. Exit codes: 0 for an orderly end, 1 for any other, 2 for a wrong command line.
#![forbid(unsafe_code)]

mod boot;
mod clone;
mod control;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pod_types::ErrorChain;
use vmm::confine::{Confinement, UserId};
use vmm::{MainLoop, RunError};
use vmm_proto::{EndCause, EndReport};

/// One virtual machine in one process.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Wait on DIR/control.sock for a daemon that starts a VM
    Run {
        /// Directory of this VM; must exist
        #[arg(long)]
        dir: PathBuf,
        /// Before the guest runs, give up every right: the directory becomes the root, and root becomes this user
        #[arg(long, value_name = "UID")]
        confine_as: Option<u32>,
    },
    /// Say as JSON whether this host can run an ordinary guest; to be run under a time limit
    Probe,
    /// Send one request to a running VM
    Control(control::ControlArguments),
    /// Run a VM in the foreground, with its console on standard output
    Boot(boot::BootArguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { dir, confine_as } => {
            run(dir, confine_as).map_or_else(|error| fail(&error), |report| end(&report))
        }
        Command::Boot(arguments) => {
            boot::run(&arguments).map_or_else(|error| fail(&error), |report| end(&report))
        }
        Command::Control(arguments) => {
            control::run(&arguments).map_or_else(|error| fail(&error), |text| print(&text))
        }
        Command::Probe => probe(),
    }
}

fn probe() -> ExitCode {
    let report = vmm::probe();
    let printed = serde_json::to_string(&report).map_or_else(|error| fail(&error), |json| print(&json));
    if report.ok { printed } else { ExitCode::FAILURE }
}

fn print(text: &str) -> ExitCode {
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    say(&ErrorChain(error).to_string());
    ExitCode::FAILURE
}

fn run(dir: PathBuf, confine_as: Option<u32>) -> Result<EndReport, RunError> {
    let mut main_loop = MainLoop::new()?;
    main_loop.listen(&dir.join("control.sock"))?;
    let confinement = confine_as.map_or(Confinement::Off, |user| Confinement::Wanted {
        dir,
        user: UserId(user),
    });
    main_loop.confined(confinement).run()
}

fn end(report: &EndReport) -> ExitCode {
    let (text, code) = match &report.cause {
        EndCause::PowerOff => ("the guest powered off".to_owned(), ExitCode::SUCCESS),
        EndCause::Reset => ("the guest asked for a reset".to_owned(), ExitCode::SUCCESS),
        EndCause::Stopped => ("stopped".to_owned(), ExitCode::SUCCESS),
        EndCause::GuestPanic => ("the guest's kernel panicked".to_owned(), ExitCode::FAILURE),
        EndCause::TripleFault => ("the guest met a triple fault".to_owned(), ExitCode::FAILURE),
        EndCause::Internal(why) => (format!("internal error: {why}"), ExitCode::FAILURE),
    };
    say(&format!("{text} after {} ms", report.uptime_ms));
    code
}

fn say(text: &str) {
    // Nobody can be told that standard error is gone.
    let _ = writeln!(io::stderr().lock(), "podflare-vmm: {text}");
}

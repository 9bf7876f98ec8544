//! The front door for whoever works on Podflare: build, run, test and lint, each in one command.
//!
//! Continuous integration calls these commands too and holds no logic of its own.
#![forbid(unsafe_code)]

mod bench;
mod binaries;
mod demo;
mod generate;
mod host;
mod lint;
mod shell;
mod system;
mod test;
mod venv;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, run, test and lint Podflare.
#[derive(Parser)]
#[command(name = "cargo xtask", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing, build, start the host and show it working with the official client
    Demo,
    /// Build and start the host (arguments go to `podflare up`)
    Up {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Stop the host (arguments go to `podflare down`)
    Down {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every check: lint, unit, property, and end to end on real VMs
    Test(test::Options),
    /// Formatting, clippy, layers, unsafe code, house rules
    Lint,
    /// Write anew what is made from the code and checked in: the OpenAPI document, the configuration reference
    Generate,
    /// Build the static release binaries and print the folder they are in
    Build,
    /// Measure what the host's operations cost, against the targets and the last time
    Bench(bench::Options),
    /// Many consecutive starts of the software host on a busy machine, then a long self-checking load
    Soak(host::SoakOptions),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Demo => demo::run(),
        Task::Up { arguments } => host::up(&arguments),
        Task::Down { arguments } => host::down(&arguments),
        Task::Test(options) => test::run(&options),
        Task::Lint => lint::run(),
        Task::Generate => generate::run(),
        Task::Build => {
            let folder = binaries::build()?;
            shell::say(&folder.display().to_string());
            Ok(())
        }
        Task::Bench(options) => bench::run(&options),
        Task::Soak(options) => host::soak(&options),
    }
}

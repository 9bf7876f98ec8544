//! `podflare`, the command line people use.
//!
//! It starts a host on this machine (`up`), asks it to run code (`run`, `sandbox`), and says what is wrong when
//! something is (`doctor`, `status`, `logs`). This file only parses, wires and ends; one file per command does the rest.
#![forbid(unsafe_code)]

mod artifacts;
mod authority;
mod binaries;
mod cli;
mod commands;
mod configuration;
mod context;
mod exit;
mod failure;
mod follow;
mod interrupts;
mod launch;
mod local;
mod location;
mod operator;
mod output;
mod reach;
mod settings;
mod source;
mod span;
mod streaming;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::output::{Form, Printer};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let printer = Printer::new(if cli.global.json { Form::Json } else { Form::Words });
    let interrupts = match cli.command.watches_signals() {
        true => Interrupts::watch(),
        false => Ok(Interrupts::default()),
    };
    let interrupts = match interrupts {
        Ok(interrupts) => interrupts,
        Err(error) => {
            printer.failure(&Failure::while_doing(
                "signals",
                "cannot prepare for signals",
                &error,
            ));
            return Exit::Failed.into();
        }
    };
    let cli = match cli.command {
        Command::Up(_) => configuration::read_again(cli),
        _ => Ok(cli),
    };
    let cli = match cli {
        Ok(cli) => cli,
        Err(failure) => {
            printer.failure(&failure);
            return Exit::Failed.into();
        }
    };
    let context = Context::new(printer, interrupts, cli.global);
    let on_failure = cli.command.on_failure();
    match commands::dispatch(&context, cli.command) {
        Ok(exit) => {
            context.interrupts.settle();
            exit.into()
        }
        Err(failure) => {
            context.interrupts.settle();
            printer.failure(&failure);
            if failure.is_usage() {
                Exit::Usage
            } else {
                on_failure
            }
            .into()
        }
    }
}

//! `podflare machine`: a look inside the software host, and at what leaves it, for operators.

pub(crate) mod capture;
pub(crate) mod exec;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Look inside the software host (for operators)
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Exec(exec::Args),
    Capture(capture::Args),
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Exec(args) => exec::run(context, &args),
        Command::Capture(args) => capture::run(context, &args),
    }
}

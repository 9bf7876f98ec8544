//! `podflare config`: the configuration file, and what holds because of it.

mod check;
mod init;
mod show;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Check, show and begin the configuration file of the host on this machine
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    Show(show::Args),
    Init(init::Args),
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Check(args) => check::run(context, args),
        Command::Show(args) => show::run(context, args),
        Command::Init(args) => init::run(context, args),
    }
}

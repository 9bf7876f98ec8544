//! One file per command: its arguments, and a function that carries it out.

pub(crate) mod cp;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod image;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod machine;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod status;
pub(crate) mod supervise;
pub(crate) mod up;
pub(crate) mod version;

use crate::cli::Command;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => up::run(context, args),
        Command::Down(args) => down::run(context, args),
        Command::Status(args) => status::run(context, args),
        Command::Doctor(args) => doctor::run(context, args),
        Command::Logs(args) => logs::run(context, args),
        Command::Run(args) => run::run(context, args),
        Command::Sandbox(command) => sandbox::dispatch(context, command),
        Command::Cp(args) => cp::run(context, args),
        Command::Ls(args) => ls::run(context, args),
        Command::Image(command) => image::dispatch(context, command),
        Command::Machine(command) => machine::dispatch(context, command),
        Command::Version(args) => version::run(context, args),
        Command::Supervise(args) => supervise::run(context, &args),
    }
}

//! One file per command: its arguments, and a function that carries it out.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod cp;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod forward;
pub(crate) mod image;
pub(crate) mod key;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod machine;
pub(crate) mod restart;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod secret;
pub(crate) mod shell;
pub(crate) mod space;
pub(crate) mod status;
pub(crate) mod supervise;
pub(crate) mod tenant;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod usage;
pub(crate) mod version;
pub(crate) mod webhook;

use crate::cli::Command;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => up::run(context, args),
        Command::Down(args) => down::run(context, args),
        Command::Restart(args) => restart::run(context, &args),
        Command::Status(args) => status::run(context, args),
        Command::Doctor(args) => doctor::run(context, args),
        Command::Logs(args) => logs::run(context, args),
        Command::Config(command) => config::dispatch(context, command),
        Command::Top(args) => top::run(context, args),
        Command::Run(args) => run::run(context, args),
        Command::Sandbox(command) => sandbox::dispatch(context, command),
        Command::Secret(command) => secret::dispatch(context, command),
        Command::Space(command) => space::dispatch(context, command),
        Command::Key(command) => key::dispatch(context, command),
        Command::Tenant(command) => tenant::dispatch(context, command),
        Command::Webhook(command) => webhook::dispatch(context, command),
        Command::Usage(args) => usage::run(context, &args),
        Command::Audit(args) => audit::run(context, args),
        Command::Forward(args) => forward::run(context, &args),
        Command::Shell(args) => shell::run(context, args),
        Command::Cp(args) => cp::run(context, args),
        Command::Ls(args) => ls::run(context, args),
        Command::Image(command) => image::dispatch(context, command),
        Command::Machine(command) => machine::dispatch(context, command),
        Command::Version(args) => version::run(context, args),
        Command::Supervise(args) => supervise::run(context, &args),
    }
}

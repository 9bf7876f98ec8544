//! The shape of the command line. Each command's own arguments stand in its file.

use clap::{Parser, Subcommand};

use crate::commands::{
    audit, config, cp, doctor, down, forward, image, key, logs, ls, machine, restart, run, sandbox, secret,
    shell, space, status, supervise, tenant, top, up, usage, version, webhook,
};
use crate::exit::Exit;
use crate::settings::GlobalArgs;

const EXAMPLES: &str = "\
Examples:
  podflare up                           start a host on this machine, whatever its hardware
  podflare run -c 'print(6 * 7)'        run Python in a fresh microVM and remove it again
  podflare run script.py one two        the same with a file and its arguments
  podflare sandbox create               make a sandbox that stays
  podflare sandbox exec ID -c 'x = 1'   run code in it; its variables stay, too
  podflare top                          watch what runs, live
  podflare shell ID                     open a terminal in it
  podflare forward ID 8080              reach its port 8080 on this machine
  podflare cp data.csv ID:              copy files there, or back
  podflare doctor                       check everything that can be wrong
  podflare restart                      another host daemon, while the sandboxes go on
  podflare down                         stop the host";

/// A computer of its own for every AI agent, in milliseconds
///
/// Podflare runs code in microVMs on this machine: each sandbox has its own kernel, a live Python REPL and a shell.
#[derive(Debug, Parser)]
#[command(name = "podflare", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Args),
    Down(down::Args),
    Restart(restart::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Logs(logs::Args),
    #[command(subcommand)]
    Config(config::Command),
    Top(top::Args),
    Run(run::Args),
    #[command(subcommand)]
    Sandbox(sandbox::Command),
    #[command(subcommand)]
    Space(space::Command),
    Shell(shell::Args),
    Forward(forward::Args),
    #[command(subcommand)]
    Key(key::Command),
    #[command(subcommand)]
    Tenant(tenant::Command),
    #[command(subcommand)]
    Secret(secret::Command),
    #[command(subcommand)]
    Webhook(webhook::Command),
    Usage(usage::Args),
    Audit(audit::Args),
    Cp(cp::Args),
    Ls(ls::Args),
    #[command(subcommand)]
    Image(image::Command),
    #[command(subcommand)]
    Machine(machine::Command),
    Version(version::Args),
    #[command(hide = true)]
    Supervise(supervise::Args),
}

impl Command {
    /// Whether Ctrl-C and its kin are dealt with here; the supervisor does that itself.
    pub(crate) fn watches_signals(&self) -> bool {
        !matches!(self, Self::Supervise(_))
    }

    /// How the program ends when the command fails. Where success is the exit code of somebody's code, a failure of
    /// ours needs one of its own.
    pub(crate) fn on_failure(&self) -> Exit {
        match self {
            Self::Run(_)
            | Self::Shell(_)
            | Self::Sandbox(sandbox::Command::Exec(_))
            | Self::Machine(machine::Command::Exec(_)) => Exit::NotRun,
            _ => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

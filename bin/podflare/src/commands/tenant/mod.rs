//! `podflare tenant`: who uses a host, and what they may have; for its operator.

mod create;
mod limits;
mod ls;
mod rm;
mod set;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  podflare tenant create acme --tier pro              a tenant with the limits of a tier
  podflare tenant create lab --limit sandboxes=20     one with a limit of its own
  podflare tenant set acme --limit ram_mib=8192       one limit differs from its tier's
  podflare tenant set acme --limit sandboxes=none     one is lifted
  podflare tenant set acme --limit ram_mib=tier       one is its tier's again
  podflare tenant rm acme --force                     with its keys and sandboxes

Tiers: free, pro, scale, unlimited. Limits: sandboxes, creates_per_minute, create_burst, runs,
timeout_seconds, idle_timeout_seconds, ram_mib, rootfs_gb.";

/// Make, list, change and remove tenants
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    Create(create::Args),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Set(set::Args),
    #[command(visible_alias = "delete")]
    Rm(rm::Args),
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => create::run(context, args),
        Command::Ls(args) => ls::run(context, args),
        Command::Set(args) => set::run(context, &args),
        Command::Rm(args) => rm::run(context, &args),
    }
}

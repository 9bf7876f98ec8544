//! `podflare sandbox set`.

use api::{ChangeRequest, Wish};
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::span;

const EXAMPLES: &str = "\
Examples:
  podflare sandbox set ID --timeout 2h            two hours from its creation
  podflare sandbox set ID --idle 10m              ends after ten minutes without a use
  podflare sandbox set ID --idle 10m --persistent freezes then instead
  podflare sandbox set ID --timeout none          as long as there can be
  podflare sandbox extend ID 1h                   an hour more than now

A tenant's limits hold: the answer shows what was given. Runs, terminals and transfers put being idle
off; a connection on which nothing moves does not.";

/// Change how long a sandbox stays
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// Longest life, counted from its creation; `none` for the most there can be
    #[arg(long, value_name = "TIME", value_parser = span::limit)]
    timeout: Option<Wish>,

    /// Longest time without a use; `none` for the most there can be
    #[arg(long, value_name = "TIME", value_parser = span::limit)]
    idle: Option<Wish>,

    /// Freeze it instead of destroying it when it has been idle for too long
    #[arg(long, value_name = "YES", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    persistent: Option<bool>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let change = ChangeRequest {
        timeout_seconds: args.timeout.unwrap_or_default(),
        idle_timeout_seconds: args.idle.unwrap_or_default(),
        persistent: args.persistent,
        egress: None,
    };
    let changed = context.client()?.change(args.id, &change)?;
    context.printer.show(&changed)?;
    Ok(Exit::Ok)
}

//! `podflare sandbox checkpoint`.

use api::Checkpoint;
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

const EXAMPLES: &str = "\
Examples:
  podflare sandbox checkpoint ID --name before    keep what the sandbox is now
  podflare sandbox exec ID --bash -c 'rm -rf /root/desk'
  podflare sandbox rollback ID                    it never happened
  podflare sandbox checkpoints ID --rm before     give it up

A checkpoint has everything: variables, processes, files. It is kept in the host's memory and ends
with the sandbox.";

/// Keep what a sandbox is now, to go back to it later; prints its name
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// Name of the checkpoint [default: one is made up]
    #[arg(long, short, value_name = "NAME")]
    name: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let checkpoint = context.client()?.checkpoint(args.id, args.name)?;
    context.printer.show(&checkpoint)?;
    Ok(Exit::Ok)
}

/// For people and shells alike: what a rollback is told.
impl Show for Checkpoint {
    fn words(&self, _: Paint) -> String {
        self.name.clone()
    }
}

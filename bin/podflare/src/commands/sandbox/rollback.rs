//! `podflare sandbox rollback`.

use api::RolledBack;
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Put a sandbox back to where it was at a checkpoint, under the same id
///
/// Variables, processes and files are again what they were; runs in progress end. The checkpoint stays, so this can be done again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// Name or id of the checkpoint [default: the latest]
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let done = context.client()?.roll_back(args.id, args.checkpoint)?;
    context.printer.show(&done)?;
    if done.ended_execs > 0 {
        let runs = done.ended_execs;
        context
            .printer
            .hint(&format!("{runs} of its runs were in progress and have ended"));
    }
    Ok(Exit::Ok)
}

impl Show for RolledBack {
    fn words(&self, _: Paint) -> String {
        self.checkpoint.name.clone()
    }
}

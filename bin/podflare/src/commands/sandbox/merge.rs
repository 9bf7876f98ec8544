//! `podflare sandbox merge`.

use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Put one sandbox in the place of another
///
/// From then on the sandbox is the winner, under its old id; what it was before ends, and so does the winner's own id.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sandbox whose id stays
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// The sandbox that takes its place, usually forked from it
    #[arg(value_name = "WINNER")]
    winner: SandboxId,
}

#[derive(Serialize)]
struct Merged {
    id: SandboxId,
    winner: SandboxId,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let Args { id, winner } = args;
    context.client()?.merge_into(id, winner)?;
    context.printer.show(&Merged { id, winner })?;
    Ok(Exit::Ok)
}

impl Show for Merged {
    fn words(&self, _: Paint) -> String {
        self.id.to_string()
    }
}

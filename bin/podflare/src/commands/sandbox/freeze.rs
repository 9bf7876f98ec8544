//! `podflare sandbox freeze`.

use api::{FreezeRequest, SpaceInfo};
use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

const EXAMPLES: &str = "\
Examples:
  podflare sandbox freeze ID            put it on disk; prints the id of its space
  podflare space resume SPACE           go on with it, today or next year

Everything is kept: variables, open files, processes, terminals, the disk. It takes room on the host's disk and
nothing else.";

/// Freeze a sandbox to disk, and print the id of its space
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,
    /// Freeze it although it has checkpoints, which end with it
    #[arg(long)]
    drop_checkpoints: bool,
}

/// For people and shells alike: the id alone.
#[derive(Serialize)]
#[serde(transparent)]
struct Frozen(SpaceInfo);

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let how = FreezeRequest {
        drop_checkpoints: args.drop_checkpoints,
        ..FreezeRequest::default()
    };
    let space = context.client()?.freeze(args.id, how)?;
    context.printer.show(&Frozen(space))?;
    Ok(Exit::Ok)
}

impl Show for Frozen {
    fn words(&self, _: Paint) -> String {
        self.0.id.to_string()
    }
}

//! `podflare sandbox checkpoints`.

use api::{Checkpoint, CheckpointState};
use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since, table};

/// List the checkpoints of a sandbox, oldest first, or give some up
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// Give up this one, by name or id; may be given several times
    #[arg(long, value_name = "CHECKPOINT")]
    rm: Vec<String>,
}

#[derive(Serialize)]
struct Listing {
    checkpoints: Vec<Checkpoint>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    for checkpoint in &args.rm {
        client.delete_checkpoint(args.id, checkpoint)?;
    }
    let listing = Listing {
        checkpoints: client.checkpoints(args.id)?,
    };
    if args.rm.is_empty() || !listing.checkpoints.is_empty() {
        context.printer.show(&listing)?;
    }
    if listing.checkpoints.is_empty() && args.rm.is_empty() {
        context
            .printer
            .hint("it has none; `podflare sandbox checkpoint ID` makes one");
    }
    Ok(Exit::Ok)
}

impl Show for Listing {
    fn words(&self, _: Paint) -> String {
        if self.checkpoints.is_empty() {
            return String::new();
        }
        let mut rows = vec![["NAME", "ID", "STATE", "AGE"].map(str::to_owned)];
        rows.extend(self.checkpoints.iter().map(|checkpoint| {
            let state = match (checkpoint.state, &checkpoint.error) {
                (CheckpointState::Ready, _) => "ready".to_owned(),
                (CheckpointState::Lost, None) => "lost".to_owned(),
                (CheckpointState::Lost, Some(why)) => format!("lost: {why}"),
            };
            [
                checkpoint.name.clone(),
                checkpoint.id.to_string(),
                state,
                since(checkpoint.created_at_ms),
            ]
        }));
        table(&rows)
    }
}

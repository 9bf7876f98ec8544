//! `podflare sandbox rm`.

use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Remove sandboxes; one that is gone already is no error
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sandboxes
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<SandboxId>,

    /// Remove every sandbox of the host
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

#[derive(Serialize)]
struct Removed {
    removed: Vec<SandboxId>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    let ids = if args.all {
        client.list()?.into_iter().map(|sandbox| sandbox.id).collect()
    } else {
        args.ids
    };
    for &id in &ids {
        client.delete(id)?;
    }
    context.printer.show(&Removed { removed: ids })?;
    Ok(Exit::Ok)
}

impl Show for Removed {
    fn words(&self, _: Paint) -> String {
        let ids: Vec<String> = self.removed.iter().map(SandboxId::to_string).collect();
        ids.join("\n")
    }
}

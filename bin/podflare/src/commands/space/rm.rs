//! `podflare space rm`.

use pod_types::SpaceId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Remove spaces and all that is in them; one that is gone already is no error
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The spaces
    #[arg(value_name = "ID", required = true)]
    ids: Vec<SpaceId>,
}

#[derive(Serialize)]
struct Removed {
    removed: Vec<SpaceId>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    for &id in &args.ids {
        client.delete_space(id)?;
    }
    context.printer.show(&Removed { removed: args.ids })?;
    Ok(Exit::Ok)
}

impl Show for Removed {
    fn words(&self, _: Paint) -> String {
        let ids: Vec<String> = self.removed.iter().map(SpaceId::to_string).collect();
        ids.join("\n")
    }
}

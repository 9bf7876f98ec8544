//! `podflare sandbox ls`.

use api::SandboxInfo;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, mebibytes, since, state_name, table, time_left};

/// List sandboxes, oldest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only ids, one a line
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Serialize)]
struct Listing {
    sandboxes: Vec<SandboxInfo>,
    #[serde(skip)]
    quiet: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let listing = Listing {
        sandboxes: context.client()?.list()?,
        quiet: args.quiet,
    };
    context.printer.show(&listing)?;
    if listing.sandboxes.is_empty() && !args.quiet {
        context
            .printer
            .hint("there are none; `podflare sandbox create` makes one");
    }
    Ok(Exit::Ok)
}

impl Show for Listing {
    fn words(&self, _: Paint) -> String {
        if self.quiet || self.sandboxes.is_empty() {
            let ids: Vec<String> = self
                .sandboxes
                .iter()
                .map(|sandbox| sandbox.id.to_string())
                .collect();
            return ids.join("\n");
        }
        let mut rows = vec![["ID", "STATE", "TEMPLATE", "MEMORY", "AGE", "LEFT"].map(str::to_owned)];
        rows.extend(self.sandboxes.iter().map(|sandbox| {
            [
                sandbox.id.to_string(),
                state_name(sandbox.state).to_owned(),
                sandbox.template.clone(),
                mebibytes(sandbox.ram_mib.into()),
                since(sandbox.created_at_ms),
                time_left(sandbox),
            ]
        }));
        table(&rows)
    }
}

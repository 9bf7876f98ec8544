//! `podflare space ls`.

use api::SpaceInfo;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, mebibytes, since, table};

/// List spaces, oldest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only ids, one a line
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Serialize)]
struct Listing {
    spaces: Vec<SpaceInfo>,
    #[serde(skip)]
    quiet: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let listing = Listing {
        spaces: context.client()?.spaces()?,
        quiet: args.quiet,
    };
    context.printer.show(&listing)?;
    if listing.spaces.is_empty() && !args.quiet {
        context
            .printer
            .hint("there are none; `podflare sandbox freeze ID` makes one of a sandbox");
    }
    Ok(Exit::Ok)
}

impl Show for Listing {
    fn words(&self, _: Paint) -> String {
        if self.quiet || self.spaces.is_empty() {
            let ids: Vec<String> = self.spaces.iter().map(|space| space.id.to_string()).collect();
            return ids.join("\n");
        }
        let mut rows = vec![["ID", "WAS", "TEMPLATE", "ON DISK", "AGE"].map(str::to_owned)];
        rows.extend(self.spaces.iter().map(|space| {
            [
                space.id.to_string(),
                space.sandbox_id.to_string(),
                space.template.clone(),
                mebibytes(space.bytes.div_ceil(1 << 20)),
                since(space.created_at_ms),
            ]
        }));
        table(&rows)
    }
}

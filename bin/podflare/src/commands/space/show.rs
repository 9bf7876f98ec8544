//! `podflare space show`.

use pod_types::SpaceId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Show what is known of a space
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The space
    #[arg(value_name = "ID")]
    id: SpaceId,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    context.printer.show(&context.client()?.space(args.id)?)?;
    Ok(Exit::Ok)
}

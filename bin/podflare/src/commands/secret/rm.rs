//! `podflare secret rm`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Revoke a secret: no sandbox uses it any more
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    context.client()?.remove_secret(&args.name)?;
    Ok(Exit::Ok)
}

//! `podflare tenant rm`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Remove a tenant and its keys; what it used and did stays on record
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    name: String,

    /// Delete its sandboxes, too
    #[arg(long, short)]
    force: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    context
        .operator()?
        .remove_tenant(&args.name, args.force)
        .map_err(|error| {
            let in_use = error.code() == "state_conflict" && !args.force;
            let failure = Failure::from(error);
            if in_use {
                failure.hint("--force deletes its sandboxes, too")
            } else {
                failure
            }
        })?;
    Ok(Exit::Ok)
}

//! `podflare webhook rm`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Remove webhooks with their logs; what waits is not sent
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of the webhooks
    #[arg(value_name = "WEBHOOK", required = true)]
    ids: Vec<String>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    for id in &args.ids {
        client.remove_webhook(id)?;
    }
    Ok(Exit::Ok)
}

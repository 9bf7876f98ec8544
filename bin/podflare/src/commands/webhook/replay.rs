//! `podflare webhook replay`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Send a delivery again: the same event with the same id
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the webhook
    #[arg(value_name = "WEBHOOK")]
    id: String,

    /// Id of the delivery, from `podflare webhook deliveries`
    #[arg(value_name = "DELIVERY")]
    delivery: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let again = context.client()?.replay_delivery(&args.id, &args.delivery)?;
    context.printer.show(&again)?;
    Ok(Exit::Ok)
}

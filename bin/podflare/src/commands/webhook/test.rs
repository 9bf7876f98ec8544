//! `podflare webhook test`.

use api::DeliveryState;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Send a test event now, and say what came of it
///
/// Ends with 0 if the receiver took it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the webhook
    #[arg(value_name = "WEBHOOK")]
    id: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let delivery = context.client()?.test_webhook(&args.id)?;
    let delivered = delivery.state == DeliveryState::Delivered;
    context.printer.show(&delivery)?;
    Ok(if delivered { Exit::Ok } else { Exit::Failed })
}

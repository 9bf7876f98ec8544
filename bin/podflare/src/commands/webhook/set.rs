//! `podflare webhook set`.

use api::{WebhookChange, WebhookEvent};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Change a webhook; what is not named stays as it is
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    /// Id of the webhook
    #[arg(value_name = "WEBHOOK")]
    id: String,

    /// Where to send from now on
    #[arg(long)]
    url: Option<String>,

    /// What to send from now on (can be repeated)
    #[arg(long = "event", short, value_name = "EVENT", value_delimiter = ',')]
    events: Option<Vec<WebhookEvent>>,

    #[arg(long, short)]
    description: Option<String>,

    /// Start it, and send at once what waits
    #[arg(long, conflicts_with = "disable")]
    enable: bool,

    /// Stop it; what happens meanwhile is not told later
    #[arg(long)]
    disable: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let change = WebhookChange {
        url: args.url,
        events: args.events,
        description: args.description,
        enabled: (args.enable || args.disable).then_some(args.enable),
    };
    context
        .printer
        .show(&context.client()?.set_webhook(&args.id, &change)?)?;
    Ok(Exit::Ok)
}

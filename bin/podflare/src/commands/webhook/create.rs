//! `podflare webhook create`.

use api::{WebhookEvent, WebhookRequest};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Register a webhook, and print its secret this once
///
/// The host posts JSON to the URL. Unless it asks nobody for keys, it sends to public addresses only, and to those of its
/// setting webhook_allow. From the software host this machine is reached as 10.0.2.2.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to send, with http:// or https://
    url: String,

    /// What to send (can be repeated) [default: everything]
    #[arg(long = "event", short, value_name = "EVENT", value_delimiter = ',')]
    events: Vec<WebhookEvent>,

    /// For people
    #[arg(long, short)]
    description: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let request = WebhookRequest {
        url: args.url,
        events: args.events,
        description: args.description,
    };
    let made = context.client()?.create_webhook(&request)?;
    context.printer.show(&made)?;
    let id = &made.info.id;
    context.printer.hint(&format!(
        "the secret is not shown again; try it: podflare webhook test {id}"
    ));
    Ok(Exit::Ok)
}

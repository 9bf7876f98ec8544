//! `podflare sandbox share`.

use api::{SHARE_SECONDS_MAX, ShareRequest, SharedPort};
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};
use crate::span;

const EXAMPLES: &str = "\
Examples:
  podflare sandbox share ID 8080                 for an hour
  podflare sandbox share ID 8080 --expires 1d    for a day; a week at most
  curl $(podflare sandbox share ID 8080)api      the URL ends with a slash

Whoever has the URL may use this port until its time is over or the sandbox is gone: nothing else, and no
fork. It cannot be taken back.";

/// Make a URL that leads to a port without a key
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// The port in it
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// For how long it is good
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = expiry)]
    expires: u32,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let request = ShareRequest {
        expires_in_seconds: args.expires,
    };
    let shared = context.client()?.share_port(args.id, args.port, &request)?;
    context.printer.show(&shared)?;
    Ok(Exit::Ok)
}

fn expiry(text: &str) -> Result<u32, String> {
    let seconds = span::seconds(text)?;
    let seconds = u32::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds <= SHARE_SECONDS_MAX);
    seconds.ok_or_else(|| "expected a week (7d) at most".to_owned())
}

impl Show for SharedPort {
    /// The one that leads everybody to the right place.
    fn words(&self, _: Paint) -> String {
        self.url.clone()
    }
}

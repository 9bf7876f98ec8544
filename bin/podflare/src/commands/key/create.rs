//! `podflare key create`.

use api::NewKeyRequest;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Make a key, and print it this once
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tenant whose sandboxes it opens
    #[arg(long, default_value = "default")]
    tenant: String,

    /// What it is for, so that you know it again in the list
    #[arg(long, default_value = "key")]
    name: String,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let request = NewKeyRequest {
        tenant: Some(args.tenant),
        name: Some(args.name),
    };
    let made = context.operator()?.create_key(&request)?;
    context.printer.show(&made)?;
    let text = format!(
        "{} of tenant {}; it is not shown again",
        made.info.id, made.info.tenant
    );
    context.printer.hint(&text);
    Ok(Exit::Ok)
}

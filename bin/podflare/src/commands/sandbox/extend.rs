//! `podflare sandbox extend`.

use api::{ChangeRequest, Wish};
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::span;

/// Let a sandbox live longer than it would
///
/// The time is added to its life. A tenant's limits hold: what was given is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// How much longer: 30m, 2h, 1d
    #[arg(value_name = "TIME", value_parser = span::seconds)]
    by: u64,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    let before = client.get(args.id)?;
    let Some(life) = before.timeout_seconds else {
        context.printer.show(&before)?;
        context.printer.hint("its life has no end that could be put off");
        return Ok(Exit::Ok);
    };
    let change = ChangeRequest {
        timeout_seconds: Wish::Seconds(life.saturating_add(args.by)),
        ..ChangeRequest::default()
    };
    let after = client.change(args.id, &change)?;
    context.printer.show(&after)?;
    if after.timeout_seconds < Some(life.saturating_add(args.by)) {
        context
            .printer
            .hint("its tenant's limit allows no more; `podflare tenant ls` shows it to the operator");
    }
    Ok(Exit::Ok)
}

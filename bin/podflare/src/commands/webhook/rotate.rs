//! `podflare webhook rotate`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Make a new secret in the place of one, and print it this once
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the webhook
    #[arg(value_name = "WEBHOOK")]
    id: String,

    /// Seconds for which the old secret signs, too, so that receivers can be changed meanwhile
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 3600,
          value_parser = clap::value_parser!(u64).range(0..=api::GRACE_SECONDS_MAX))]
    grace: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    context
        .printer
        .show(&context.client()?.rotate_webhook(&args.id, args.grace)?)?;
    context.printer.hint(&match args.grace {
        0 => "the old secret does not sign any more".to_owned(),
        seconds => format!("the old secret signs, too, for {seconds} s more"),
    });
    Ok(Exit::Ok)
}

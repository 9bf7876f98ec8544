//! `podflare key rotate`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Make a new key in the place of one, and print it this once
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the old key
    #[arg(value_name = "KEY")]
    id: String,

    /// Seconds for which the old key still works
    #[arg(long, value_name = "SECONDS", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(0..=api::GRACE_SECONDS_MAX))]
    grace: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let made = context.operator()?.rotate_key(&args.id, args.grace)?;
    context.printer.show(&made)?;
    let old = match args.grace {
        0 => "does not work any more".to_owned(),
        seconds => format!("works for {seconds} s more"),
    };
    context.printer.hint(&format!(
        "{} takes the place of {}, which {old}",
        made.info.id, args.id
    ));
    Ok(Exit::Ok)
}

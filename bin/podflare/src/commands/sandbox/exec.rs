//! `podflare sandbox exec`.

use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::source::SourceArgs;
use crate::streaming;

const EXAMPLES: &str = "\
Examples:
  podflare sandbox exec ID -c 'import math; r = 2'
  podflare sandbox exec ID -c 'math.pi * r ** 2'      variables and imports are still there
  podflare sandbox exec ID --bash -c 'ls -l /root'
  podflare sandbox exec ID script.py one two

The exit code is that of the code; 125 means that Podflare could not run it.
Ctrl-C interrupts the code; the sandbox and its variables stay.";

/// Run code in a sandbox: Python in its live interpreter, or bash
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let source = args.source.read()?;
    let client = context.client()?;
    streaming::execute(&client, args.id, source, &context.printer)
}

//! `podflare sandbox fork`.

use api::Forked;
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

const EXAMPLES: &str = "\
Examples:
  podflare sandbox fork ID              one copy; prints its id
  podflare sandbox fork ID -n 5         five, one id a line
  podflare sandbox merge ID CHILD       go on with one of them under the id of ID

A copy has everything the sandbox has at that moment: variables, open files, processes, the disk. Nothing that
happens later is shared.";

/// Make copies of a running sandbox, and print their ids
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// How many copies
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=i64::from(api::FORK_MAX)))]
    count: u8,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let children = context.client()?.fork(args.id, args.count)?;
    context.printer.show(&Forked { children })?;
    Ok(Exit::Ok)
}

/// For people and shells alike: the ids alone.
impl Show for Forked {
    fn words(&self, _: Paint) -> String {
        let ids: Vec<String> = self.children.iter().map(SandboxId::to_string).collect();
        ids.join("\n")
    }
}

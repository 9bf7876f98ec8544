//! `podflare secret`: what sandboxes may use without having it.

mod ls;
mod rm;
mod set;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  podflare secret set TOKEN --host api.example.com < token.txt    the value comes from standard input
  podflare sandbox create --secret TOKEN                          a sandbox that may use it
  podflare secret ls                                              names, placeholders and hosts
  podflare secret rm TOKEN                                        no sandbox uses it any more

Programs in the sandbox send the placeholder that `set` prints, in a header or in the target of an HTTPS
request; the host's network puts the value in its place, for these hosts alone.";

/// Keep, list and revoke secrets that sandboxes use without having them
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    Set(set::Args),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    #[command(visible_alias = "revoke")]
    Rm(rm::Args),
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Set(args) => set::run(context, args),
        Command::Ls(args) => ls::run(context, args),
        Command::Rm(args) => rm::run(context, &args),
    }
}

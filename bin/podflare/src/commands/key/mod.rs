//! `podflare key`: API keys, for the operator of a host.

mod create;
mod ls;
mod revoke;
mod rotate;

use api::NewKey;
use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

const EXAMPLES: &str = "\
Examples:
  podflare key create --name laptop             a key of the tenant `default`; prints it, this once
  podflare key create --tenant acme --name ci   one of another tenant
  podflare key ls                               all keys, by their ids and last characters
  podflare key rotate KEY --grace 86400         a new key; the old one works for another day
  podflare key revoke KEY                       from the next request on it opens nothing

Whoever has a key sees its tenant's sandboxes and nothing else. On the host's own machine no key
is needed, unless it was started with --require-keys or PODFLARE_API_KEYS.";

/// Make, list, rotate and revoke API keys
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    Create(create::Args),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Rotate(rotate::Args),
    Revoke(revoke::Args),
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => create::run(context, args),
        Command::Ls(args) => ls::run(context, &args),
        Command::Rotate(args) => rotate::run(context, &args),
        Command::Revoke(args) => revoke::run(context, &args),
    }
}

/// For people and shells alike: the key alone.
impl Show for NewKey {
    fn words(&self, _: Paint) -> String {
        self.key.clone()
    }
}

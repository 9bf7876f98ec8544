//! `podflare webhook`: being told what happens to sandboxes.

mod create;
mod deliveries;
mod ls;
mod replay;
mod rm;
mod rotate;
mod set;
mod show;
mod test;

use api::NewWebhook;
use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

const EXAMPLES: &str = "\
Examples:
  podflare webhook create https://hooks.example.com/podflare
  podflare webhook create http://10.0.2.2:9000/ --event sandbox.frozen
                                        a receiver on this machine, seen from the software host
  podflare webhook test ID              send a test event now, and say what came of it
  podflare webhook deliveries ID        what was sent, and what the receiver answered
  podflare webhook replay ID DELIVERY   send one again
  podflare webhook set ID --enable      start one again that the host has stopped

Events: sandbox.created, forked, merged, frozen, resumed, destroyed, expired. Each comes at least
once, signed as https://www.standardwebhooks.com has it; docs/api.md shows how to verify that.";

/// Be told what happens to sandboxes: register, test and watch webhooks
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Command {
    Create(create::Args),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    #[command(visible_alias = "inspect")]
    Show(show::Args),
    Set(set::Args),
    #[command(visible_alias = "delete")]
    Rm(rm::Args),
    Rotate(rotate::Args),
    Test(test::Args),
    #[command(visible_alias = "log")]
    Deliveries(deliveries::Args),
    Replay(replay::Args),
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => create::run(context, args),
        Command::Ls(args) => ls::run(context, &args),
        Command::Show(args) => show::run(context, &args),
        Command::Set(args) => set::run(context, args),
        Command::Rm(args) => rm::run(context, &args),
        Command::Rotate(args) => rotate::run(context, &args),
        Command::Test(args) => test::run(context, &args),
        Command::Deliveries(args) => deliveries::run(context, &args),
        Command::Replay(args) => replay::run(context, &args),
    }
}

/// The id and the secret, which is shown this once.
impl Show for NewWebhook {
    fn words(&self, _: Paint) -> String {
        format!("id      {}\nsecret  {}", self.info.id, self.secret)
    }
}

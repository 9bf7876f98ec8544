//! `podflare key revoke`.

use api::KeyInfo;

use super::ls::state_name;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Take a key back: from the next request on it opens nothing
///
/// Streams that it has opened go on until they end. What it made stays and belongs to its tenant.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the key
    #[arg(value_name = "KEY")]
    id: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    context.printer.show(&context.operator()?.revoke_key(&args.id)?)?;
    Ok(Exit::Ok)
}

impl Show for KeyInfo {
    fn words(&self, _: Paint) -> String {
        format!(
            "{} of tenant {} is {}",
            self.id,
            self.tenant,
            state_name(self.state)
        )
    }
}

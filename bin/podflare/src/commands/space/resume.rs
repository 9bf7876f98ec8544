//! `podflare space resume`.

use api::{CreatedSandbox, ResumeRequest};
use egress::Policy;
use pod_types::SpaceId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

const EXAMPLES: &str = "\
Examples:
  podflare space resume ID              go on with it; prints the id of the sandbox
  podflare space resume ID --keep       the same, and the space can be resumed again
  podflare space resume ID --persistent freeze it again when it is idle, into a new space";

/// Go on with what was frozen, in a sandbox with a new id
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The space
    #[arg(value_name = "ID")]
    id: SpaceId,

    /// Keep the space: it can be resumed again, from where it was frozen
    #[arg(long)]
    keep: bool,

    /// Freeze again when idle, instead of ending
    #[arg(long)]
    persistent: bool,

    /// Longest life from now on [default: what it had]
    #[arg(long, value_name = "SECONDS")]
    timeout_seconds: Option<u64>,

    /// What it may reach, as for a creation [default: as before]
    #[arg(long, value_name = "REACH", value_parser = crate::reach::policy)]
    egress: Option<Policy>,
}

/// For people and shells alike: the id alone.
#[derive(Serialize)]
#[serde(transparent)]
struct Resumed(CreatedSandbox);

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let request = ResumeRequest {
        keep: args.keep,
        persistent: args.persistent,
        timeout_seconds: args.timeout_seconds,
        egress: args.egress,
        ..ResumeRequest::default()
    };
    let sandbox = context.client()?.resume(args.id, &request)?;
    context.printer.show(&Resumed(sandbox))?;
    Ok(Exit::Ok)
}

impl Show for Resumed {
    fn words(&self, _: Paint) -> String {
        self.0.id.to_string()
    }
}

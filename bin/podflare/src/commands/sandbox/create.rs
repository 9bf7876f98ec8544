//! `podflare sandbox create`.

use api::CreatedSandbox;
use egress::Policy;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

const EXAMPLES: &str = "\
Examples:
  id=$(podflare sandbox create)
  podflare sandbox exec $id -c 'x = 1'
  podflare sandbox exec $id -c 'print(x)'
  podflare sandbox rm $id
  podflare sandbox create --egress 'allow=pypi.org,*.pythonhosted.org'";

/// Make a sandbox that stays, and print its id
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: super::ShapeArgs,

    /// Size of the root disk, in GiB [default: the template's]
    #[arg(long, value_name = "GIB")]
    rootfs_gb: Option<u32>,

    /// Longest life: 90s, 10m, 2h [default: the tenant's limit]
    #[arg(long, alias = "timeout-seconds", value_name = "TIME", value_parser = crate::span::seconds)]
    timeout: Option<u64>,

    /// Longest time without a run, or traffic of a terminal or of files [default: the tenant's limit]
    #[arg(long, alias = "idle-timeout-seconds", value_name = "TIME", value_parser = crate::span::seconds)]
    idle: Option<u64>,

    /// Freeze it instead of destroying it when it has been idle for too long
    #[arg(long)]
    persistent: bool,

    /// The same as `--egress off`
    #[arg(long, conflicts_with = "egress")]
    no_egress: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let shape = args.shape.request();
    let egress = if args.no_egress {
        Policy::Closed
    } else {
        shape.egress.clone()
    };
    let request = api::CreateRequest {
        rootfs_gb: args.rootfs_gb,
        timeout_seconds: args.timeout,
        idle_timeout_seconds: args.idle,
        persistent: args.persistent,
        egress,
        ..shape
    };
    context.printer.show(&context.client()?.create(&request)?)?;
    Ok(Exit::Ok)
}

/// For people and shells alike: the id alone.
impl Show for CreatedSandbox {
    fn words(&self, _: Paint) -> String {
        self.id.to_string()
    }
}

//! `podflare tenant set`.

use api::SetTenantRequest;
use pod_types::Tier;

use super::limits::{Setting, Wake, apply, parse};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Change a tenant's tier, limits or what wakes its sandboxes; what runs already stays as it is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    name: String,

    /// free, pro, scale or unlimited
    #[arg(long)]
    tier: Option<Tier>,

    /// A limit that differs from the tier's; `none` lifts it, `tier` makes it the tier's again (can be repeated)
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = parse)]
    limits: Vec<Setting>,

    /// Whether a request for a frozen sandbox resumes it under its old id; `default` is as the host is set
    #[arg(long, value_name = "on|off|default", value_enum)]
    wake: Option<Wake>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    if args.tier.is_none() && args.limits.is_empty() && args.wake.is_none() {
        return Err(Failure::usage(
            "there is nothing to change; give --tier, --limit or --wake",
        ));
    }
    let client = context.operator()?;
    let limits = match args.limits.as_slice() {
        [] => None,
        limits => Some(apply(limits, client.tenant(&args.name)?.overrides)),
    };
    let request = SetTenantRequest {
        tier: args.tier,
        limits,
        wake: args.wake.map(Wake::setting),
    };
    context.printer.show(&client.set_tenant(&args.name, &request)?)?;
    Ok(Exit::Ok)
}

//! `podflare tenant set`.

use api::SetTenantRequest;
use pod_types::Tier;

use super::limits::{Setting, apply, parse};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Change a tenant's tier or limits; what runs already stays as it is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    name: String,

    /// free, pro, scale or unlimited
    #[arg(long)]
    tier: Option<Tier>,

    /// A limit that differs from the tier's; `none` lifts it, `tier` makes it the tier's again (can be repeated)
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = parse)]
    limits: Vec<Setting>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    if args.tier.is_none() && args.limits.is_empty() {
        return Err(Failure::usage(
            "there is nothing to change; give --tier or --limit",
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
    };
    context.printer.show(&client.set_tenant(&args.name, &request)?)?;
    Ok(Exit::Ok)
}

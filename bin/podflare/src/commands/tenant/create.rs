//! `podflare tenant create`.

use api::NewTenantRequest;
use pod_types::{Overrides, Tier};

use super::limits::{Setting, Wake, apply, parse};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Make a tenant; `podflare key create` gives it a key
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Lowercase letters, digits, `.`, `_` and `-`
    name: String,

    /// free, pro, scale or unlimited [default: the host's default tier]
    #[arg(long)]
    tier: Option<Tier>,

    /// A limit that differs from the tier's; `none` lifts it (can be repeated)
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = parse)]
    limits: Vec<Setting>,

    /// Whether a request for a frozen sandbox resumes it under its old id; `default` is as the host is set
    #[arg(
        long,
        value_name = "on|off|default",
        value_enum,
        default_value = "default",
        hide_default_value = true
    )]
    wake: Wake,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let request = NewTenantRequest {
        name: args.name,
        tier: args.tier,
        limits: apply(&args.limits, Overrides::new()),
        wake: args.wake.setting(),
    };
    let created = context.operator()?.create_tenant(&request)?;
    context.printer.show(&created)?;
    context.printer.hint(&format!(
        "give it a key: podflare key create --tenant {}",
        created.name
    ));
    Ok(Exit::Ok)
}

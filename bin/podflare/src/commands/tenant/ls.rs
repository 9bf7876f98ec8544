//! `podflare tenant ls`.

use api::TenantInfo;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since, table};

/// List tenants, oldest first; --json shows all limits
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Listing {
    tenants: Vec<TenantInfo>,
}

pub(crate) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let tenants = context.operator()?.tenants()?;
    context.printer.show(&Listing { tenants })?;
    Ok(Exit::Ok)
}

impl Show for Listing {
    fn words(&self, _: Paint) -> String {
        let mut rows =
            vec![["TENANT", "TIER", "OWN LIMITS", "KEYS", "SANDBOXES", "RUNS", "AGE"].map(str::to_owned)];
        rows.extend(self.tenants.iter().map(|tenant| {
            let limits = tenant.overrides.iter();
            let limits: Vec<String> = limits
                .map(|(limit, value)| match value {
                    Some(value) => format!("{limit}={value}"),
                    None => format!("{limit}=none"),
                })
                .collect();
            [
                tenant.name.clone(),
                tenant.tier.name().to_owned(),
                if limits.is_empty() {
                    "-".to_owned()
                } else {
                    limits.join(",")
                },
                tenant.keys.to_string(),
                match tenant.limits.sandboxes {
                    Some(most) => format!("{} of {most}", tenant.sandboxes),
                    None => tenant.sandboxes.to_string(),
                },
                tenant.runs.to_string(),
                since(tenant.created_at_ms),
            ]
        }));
        table(&rows)
    }
}

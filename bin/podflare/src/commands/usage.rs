//! `podflare usage`.

use std::time::Duration;

use api::{UsageDay, UsageFigures, UsageList};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, bytes, duration, table};

const EXAMPLES: &str = "\
Examples:
  podflare usage                    what each tenant has used in the last 30 days (for the operator)
  podflare usage --days 1 --json    today, day by day, for programs
  podflare usage --mine             what the tenant of PODFLARE_API_KEY has used

Days are those of UTC.";

/// Say what tenants have used
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many days back, today included
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=api::USAGE_DAYS_MAX))]
    days: u64,

    /// Only the tenant of the API key, which may ask without being the operator
    #[arg(long)]
    mine: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let list = if args.mine {
        UsageList {
            tenants: vec![context.client()?.usage(args.days)?],
        }
    } else {
        let operator = context
            .operator()
            .map_err(|failure| failure.hint("--mine asks with an API key"))?;
        operator.usage_of_all(args.days)?
    };
    context.printer.show(&list)?;
    if list.tenants.is_empty() {
        context.printer.hint("nothing was used");
    }
    Ok(Exit::Ok)
}

impl Show for UsageList {
    fn words(&self, _: Paint) -> String {
        if self.tenants.is_empty() {
            return String::new();
        }
        let head = [
            "TENANT",
            "DAY",
            "SANDBOXES",
            "SANDBOX TIME",
            "RUNS",
            "IN",
            "OUT",
            "SENT",
            "RECEIVED",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        for tenant in &self.tenants {
            let days = tenant.days.iter();
            let days = days.map(|UsageDay { day, used }| row(String::new(), day.clone(), used));
            let sum = row(tenant.tenant.clone(), "all".to_owned(), &tenant.total);
            rows.push(sum);
            rows.extend(days);
        }
        table(&rows)
    }
}

fn row(tenant: String, day: String, used: &UsageFigures) -> [String; 9] {
    let time = Duration::try_from_secs_f64(used.sandbox_seconds).unwrap_or_default();
    [
        tenant,
        day,
        used.sandboxes.to_string(),
        duration(time),
        used.execs.to_string(),
        bytes(used.bytes_in),
        bytes(used.bytes_out),
        bytes(used.network_sent_bytes),
        bytes(used.network_received_bytes),
    ]
}

//! `podflare sandbox egress`.

use api::{ChangeRequest, EgressLogEntry, EgressLogPage, EgressProtocol, EgressVerdict, Wish};
use clap::Subcommand;
use egress::{List, Policy, Rule};
use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, bytes, since, table};
use crate::reach;

const EXAMPLES: &str = "\
Examples:
  podflare sandbox egress ID                     what it may reach
  podflare sandbox egress ID --off               nothing from now on; connections are reset
  podflare sandbox egress ID --on                everything public
  podflare sandbox egress ID --allow api.example.com:443 --allow '*.example.org'
  podflare sandbox egress ID --allow 10.1.0.0/16 --deny 10.1.2.3
  podflare sandbox egress log ID                 what it reached, and what it was refused

Rules are names, all names below one (*.example.org), networks and addresses, each with a port or for
all of them. What is given replaces what there was.";

/// Show or change what a sandbox may reach, or see what it reached
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// The sandbox
    #[arg(value_name = "ID", required = true)]
    id: Option<SandboxId>,

    /// Everything public
    #[arg(long, conflicts_with_all = ["off", "allow", "deny"])]
    on: bool,

    /// Nothing
    #[arg(long, conflicts_with_all = ["allow", "deny"])]
    off: bool,

    /// Only what this rule and others like it allow
    #[arg(long, value_name = "RULE", value_parser = reach::rule, value_delimiter = ',')]
    allow: Vec<Rule>,

    /// What of that may not be reached all the same
    #[arg(long, value_name = "RULE", value_parser = reach::rule, value_delimiter = ',', requires = "allow")]
    deny: Vec<Rule>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Log(LogArgs),
}

/// See what a sandbox reached, and what it was refused
#[derive(Debug, clap::Args)]
struct LogArgs {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// Only entries after the one of this number
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: u64,

    /// How many entries
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=api::EGRESS_LOG_LIMIT_MAX))]
    limit: u64,
}

/// What a sandbox may reach.
#[derive(Serialize)]
struct Reach {
    egress: Policy,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    if let Some(Command::Log(log)) = args.command {
        let page = client.egress_log(log.id, log.after, log.limit)?;
        context.printer.show(&page)?;
        return Ok(Exit::Ok);
    }
    let Some(id) = args.id else {
        return Ok(Exit::Usage);
    };
    let wanted = match (args.on, args.off) {
        (true, _) => Some(Policy::Open),
        (_, true) => Some(Policy::Closed),
        _ if args.allow.is_empty() => None,
        _ => Some(Policy::List(Box::new(List {
            allow: args.allow,
            deny: args.deny,
        }))),
    };
    let info = match wanted {
        None => client.get(id)?,
        Some(egress) => {
            let change = ChangeRequest {
                timeout_seconds: Wish::Keep,
                idle_timeout_seconds: Wish::Keep,
                persistent: None,
                egress: Some(egress),
            };
            client.change(id, &change)?
        }
    };
    context.printer.show(&Reach { egress: info.egress })?;
    Ok(Exit::Ok)
}

impl Show for Reach {
    fn words(&self, _: Paint) -> String {
        reach::words(&self.egress)
    }
}

impl Show for EgressLogPage {
    fn words(&self, _: Paint) -> String {
        if self.entries.is_empty() {
            return String::new();
        }
        let head = [
            "NUMBER", "AGO", "TO", "NAME", "OVER", "VERDICT", "SENT", "RECEIVED", "WHY",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.entries.iter().map(row));
        table(&rows)
    }
}

fn row(entry: &EgressLogEntry) -> [String; 9] {
    let to = match &entry.address {
        Some(address) if address.contains(':') => format!("[{address}]:{}", entry.port),
        Some(address) => format!("{address}:{}", entry.port),
        None => "-".to_owned(),
    };
    // What a guest has asked for is written by the guest.
    let name = entry.name.as_deref().unwrap_or("-").escape_debug().to_string();
    let verdict = match entry.verdict {
        EgressVerdict::Allowed if entry.open => "open",
        EgressVerdict::Allowed => "allowed",
        EgressVerdict::Denied => "denied",
        EgressVerdict::Failed => "failed",
    };
    let verdict = match entry.times {
        0 | 1 => verdict.to_owned(),
        times => format!("{verdict} ×{times}"),
    };
    [
        entry.seq.to_string(),
        since(entry.at_ms),
        to,
        name,
        match entry.protocol {
            EgressProtocol::Tcp => "tcp",
            EgressProtocol::Udp => "udp",
            EgressProtocol::Dns => "dns",
        }
        .to_owned(),
        verdict,
        bytes(entry.sent_bytes),
        bytes(entry.received_bytes),
        entry
            .reason
            .as_deref()
            .unwrap_or_default()
            .escape_debug()
            .to_string(),
    ]
}

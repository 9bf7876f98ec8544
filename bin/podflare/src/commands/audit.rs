//! `podflare audit`.

use api::{AUDIT_LIMIT_MAX, AuditPage, AuditQuery};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since, table};

const EXAMPLES: &str = "\
Examples:
  podflare audit                        the newest 100 entries
  podflare audit --tenant acme --action exec
  podflare audit --before 5120          the page before entry 5120
  podflare audit --json -n 1000 | jq    for programs

Entries say who created, ran, forked, merged or deleted what, and what the operator changed:
never what was run.";

/// Show who did what: the newest entries of the audit log
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many entries
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=AUDIT_LIMIT_MAX))]
    limit: u64,

    /// Only entries older than this one
    #[arg(long, value_name = "ENTRY")]
    before: Option<u64>,

    /// Only what concerns this tenant
    #[arg(long)]
    tenant: Option<String>,

    /// Only this action: create, exec, fork, merge, delete, key_created, tenant_changed, …
    #[arg(long)]
    action: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let query = AuditQuery {
        limit: args.limit,
        before: args.before,
        tenant: args.tenant,
        action: args.action,
    };
    let page = context.operator()?.audit(&query)?;
    context.printer.show(&page)?;
    if let Some(before) = page.next_before {
        context
            .printer
            .hint(&format!("there may be more: --before {before}"));
    }
    Ok(Exit::Ok)
}

impl Show for AuditPage {
    fn words(&self, _: Paint) -> String {
        if self.entries.is_empty() {
            return String::new();
        }
        let head = [
            "ENTRY", "AGO", "TENANT", "BY", "ACTION", "RESULT", "TARGET", "DETAIL",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.entries.iter().map(|entry| {
            // Some of it was written by clients.
            let plain = |text: &Option<String>| -> String {
                text.as_deref().unwrap_or_default().escape_debug().collect()
            };
            let by = match (&entry.key_id, entry.actor.as_str()) {
                (Some(key), _) => key.clone(),
                (None, "tenant") => "no key".to_owned(),
                (None, actor) => actor.to_owned(),
            };
            [
                entry.id.to_string(),
                since(entry.at_ms),
                entry.tenant.clone(),
                by,
                entry.action.clone(),
                entry.result.clone(),
                plain(&entry.target),
                plain(&entry.detail),
            ]
        }));
        table(&rows)
    }
}

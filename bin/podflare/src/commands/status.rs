//! `podflare status`: the host on this machine, or the one that `--api-url` or the environment names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{Capacity, Latency, PoolState, RecentMinute, SandboxCounts};
use serde::Serialize;
use softhost::{HostKind, Observed, State, Status};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::local::{self, kind_name, state_name};
use crate::output::{Paint, Show, duration, mebibytes, pool_state_name, table};

/// Say how the host is: exits with 0 when it answers and 1 when not
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Default, Serialize)]
struct Report {
    /// `running`, `starting`, `restarting`, `stopping`, `failed`, `abandoned` or `down`.
    state: &'static str,
    /// Whether the API answers.
    answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// What is known of a host on this machine only.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    local: Option<Local>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Capacity>,
}

#[derive(Debug, Serialize)]
struct Local {
    kind: HostKind,
    reason: String,
    uptime_s: u64,
    boot_ms: Option<u64>,
    retries: u32,
    restarts: u32,
    last_error: Option<String>,
    memory_mib: Option<u32>,
}

pub(crate) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let mut report = match context.names_a_host() {
        true => Report {
            state: "down",
            ..Report::default()
        },
        false => Report::of(local::observe(&context.directories()?)?),
    };
    if context.names_a_host() || report.local.is_some() {
        let client = context.client()?;
        report.url = Some(client.url().to_owned());
        report.answers = client.healthz().is_ok();
        if report.answers {
            // All sandboxes for the operator; those of the key's tenant for anybody else.
            let of_all = context
                .operator()
                .ok()
                .and_then(|operator| operator.capacity_of_all().ok());
            report.capacity = of_all.or_else(|| client.capacity().ok());
        }
    }
    if report.local.is_none() && report.answers {
        report.state = "running";
    }
    context.printer.show(&report)?;
    if !report.answers {
        context.printer.hint(match report.state {
            "abandoned" => "its supervisor was killed; `podflare up` or `podflare down` cleans up",
            "failed" => "`podflare logs` shows what happened; `podflare up` starts it again",
            "starting" | "restarting" | "stopping" => "`podflare logs -f` shows how far it is",
            _ => "start one with `podflare up`",
        });
    }
    Ok(if report.answers { Exit::Ok } else { Exit::Failed })
}

impl Report {
    fn of(observed: Observed) -> Self {
        match observed {
            Observed::Supervised(status) => Self {
                state: state_name(status.state),
                local: Some(Local::of(*status)),
                ..Self::default()
            },
            Observed::NotRunning { last: Some(last) } if last.state == State::Failed => Self {
                state: "failed",
                local: Some(Local::of(*last)),
                ..Self::default()
            },
            Observed::NotRunning { .. } => Self {
                state: "down",
                ..Self::default()
            },
            Observed::Abandoned { .. } => Self {
                state: "abandoned",
                ..Self::default()
            },
        }
    }
}

impl Local {
    fn of(status: Status) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self {
            kind: status.kind,
            reason: status.reason,
            uptime_s: now.saturating_sub(status.started_at_unix_s),
            boot_ms: status.boot_ms,
            retries: status.retries,
            restarts: status.restarts,
            last_error: status.last_error,
            memory_mib: status.memory_mib,
        }
    }
}

impl Show for Report {
    fn words(&self, paint: Paint) -> String {
        let state = match (self.answers, self.state) {
            (true, state) => paint.green(state),
            (false, "running") => paint.red("running, but does not answer"),
            (false, state) => paint.yellow(state),
        };
        let local = self.local.as_ref();
        let capacity = self.capacity.as_ref();
        let span = |ms: u64| duration(Duration::from_millis(ms));
        let rows = [
            ("url", self.url.clone()),
            (
                "host",
                local.map(|local| format!("{} ({})", kind_name(local.kind), local.reason)),
            ),
            (
                "up for",
                local
                    .filter(|_| self.answers)
                    .map(|local| span(local.uptime_s * 1000)),
            ),
            ("booted in", local.and_then(|local| local.boot_ms).map(span)),
            (
                "retries",
                local
                    .map(|local| local.retries)
                    .filter(|&count| count > 0)
                    .map(|count| count.to_string()),
            ),
            (
                "restarts",
                local
                    .map(|local| local.restarts)
                    .filter(|&count| count > 0)
                    .map(|count| count.to_string()),
            ),
            ("last error", local.and_then(|local| local.last_error.clone())),
            (
                "host memory",
                local
                    .and_then(|local| local.memory_mib)
                    .map(|mib| mebibytes(mib.into())),
            ),
            ("sandboxes", capacity.map(|capacity| counts(&capacity.sandboxes))),
            (
                "their memory",
                capacity.map(|capacity| {
                    let memory = &capacity.memory;
                    format!(
                        "{} of {}",
                        mebibytes(memory.used_mib),
                        mebibytes(memory.budget_mib)
                    )
                }),
            ),
            ("templates", capacity.map(templates)),
            (
                "last minute",
                capacity
                    .and_then(|capacity| capacity.recent.as_ref())
                    .map(last_minute),
            ),
        ];
        let rows: Vec<_> = rows
            .into_iter()
            .filter_map(|(name, value)| Some([format!("{name}:"), value?]))
            .collect();
        // The state is put in front by hand: a table measures its cells, and this one may be coloured.
        let width = rows.iter().map(|[name, _]| name.len()).max().unwrap_or(0);
        format!("{:width$}  {state}\n{}", "state:", table(&rows))
            .trim_end()
            .to_owned()
    }
}

/// What a host that has one tenant tells of it.
fn last_minute(recent: &RecentMinute) -> String {
    let kind = |name: &str, latency: &Latency| {
        let median = latency.p50_ms.map(|ms| format!(", median {ms:.1} ms"));
        format!("{} {name}{}", latency.count, median.unwrap_or_default())
    };
    format!(
        "{}; {}",
        kind("created", &recent.creates),
        kind("runs", &recent.runs)
    )
}

/// Each template with its pool, where the host tells.
fn templates(capacity: &Capacity) -> String {
    let of_pool = |name: &String| {
        let pool = capacity.pools.iter().find(|pool| pool.template == *name);
        match pool {
            Some(pool) if pool.state == PoolState::Ready => {
                format!("{name} ({} of {} wait ready)", pool.size, pool.target)
            }
            Some(pool) => format!("{name} ({})", pool_state_name(pool.state)),
            None => name.clone(),
        }
    };
    let parts: Vec<String> = capacity.templates.iter().map(of_pool).collect();
    parts.join(", ")
}

fn counts(sandboxes: &SandboxCounts) -> String {
    let parts = [
        (sandboxes.ready, "ready"),
        (sandboxes.booting, "booting"),
        (sandboxes.ending, "ending"),
        (sandboxes.failed, "failed"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, name)| *count > 0 || *name == "ready")
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    parts.join(", ")
}

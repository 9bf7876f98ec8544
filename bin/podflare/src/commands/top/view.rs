//! What two looks at a host tell, as a table and as JSON.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use api::{Capacity, Latency, PoolCapacity, PoolState, SandboxInfo, SandboxState, SandboxUsage};
use pod_types::SandboxId;
use serde::Serialize;

use super::Sort;
use super::sample::Sample;
use crate::output::{Paint, Show, mebibytes, pool_state_name, since, state_name, table};

const MIB: u64 = 1024 * 1024;

#[derive(Debug, Serialize)]
pub(super) struct View {
    /// Seconds between the looks.
    seconds: f64,
    /// Of all sandboxes shown.
    cpu_percent: f64,
    runs_per_second: f64,
    sandboxes: Vec<Row>,
    capacity: Capacity,
}

#[derive(Debug, Serialize)]
struct Row {
    id: SandboxId,
    state: SandboxState,
    template: String,
    created_at_ms: u64,
    running_execs: u32,
    runs: u64,
    /// Since the last look, of one CPU; unknown at the first, and without a process.
    cpu_percent: Option<f64>,
    memory_own_bytes: Option<u64>,
    memory_resident_bytes: Option<u64>,
}

impl View {
    pub(super) fn between(before: &Sample, now: &Sample, sort: Sort) -> Self {
        let span = now.taken.saturating_duration_since(before.taken);
        let known: HashMap<SandboxId, &SandboxInfo> = before
            .sandboxes
            .iter()
            .map(|sandbox| (sandbox.id, sandbox))
            .collect();
        let mut runs = 0;
        let mut rows: Vec<Row> = Vec::with_capacity(now.sandboxes.len());
        for sandbox in &now.sandboxes {
            // A merge puts another VM under an id.
            let old = known
                .get(&sandbox.id)
                .filter(|old| old.vmm_pid == sandbox.vmm_pid)
                .and_then(|old| old.usage.as_ref());
            let new = sandbox.usage.as_ref();
            runs += new.map_or(0, |new| new.runs.saturating_sub(old.map_or(0, |old| old.runs)));
            rows.push(Row {
                id: sandbox.id,
                state: sandbox.state,
                template: sandbox.template.clone(),
                created_at_ms: sandbox.created_at_ms,
                running_execs: sandbox.running_execs,
                runs: new.map_or(0, |new| new.runs),
                cpu_percent: old.zip(new).and_then(|(old, new)| cpu_percent(old, new, span)),
                memory_own_bytes: new.and_then(|new| new.memory_own_bytes),
                memory_resident_bytes: new.and_then(|new| new.memory_resident_bytes),
            });
        }
        order(&mut rows, sort);
        Self {
            seconds: round(span.as_secs_f64()),
            cpu_percent: round(rows.iter().filter_map(|row| row.cpu_percent).sum()),
            runs_per_second: rate(runs, span),
            sandboxes: rows,
            capacity: now.capacity.clone(),
        }
    }
}

fn order(rows: &mut [Row], sort: Sort) {
    match sort {
        // In tenths of a percent: what differs by less is the same, and stays where it was.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float is cut to the nearest whole number"
        )]
        Sort::Cpu => rows.sort_by_key(|row| Reverse(row.cpu_percent.map(|percent| (percent * 10.0) as i64))),
        Sort::Memory => rows.sort_by_key(|row| Reverse(row.memory_own_bytes)),
        Sort::Runs => rows.sort_by_key(|row| Reverse((row.running_execs, row.runs))),
        // They come oldest first.
        Sort::Age => {}
    }
}

fn cpu_percent(old: &SandboxUsage, new: &SandboxUsage, span: Duration) -> Option<f64> {
    let used = Duration::from_millis(new.cpu_ms?.checked_sub(old.cpu_ms?)?);
    (!span.is_zero()).then(|| round(used.as_secs_f64() / span.as_secs_f64() * 100.0))
}

#[expect(clippy::cast_precision_loss, reason = "nobody sees 2^52 runs")]
fn rate(count: u64, span: Duration) -> f64 {
    if span.is_zero() {
        return 0.0;
    }
    round(count as f64 / span.as_secs_f64())
}

fn round(value: f64) -> f64 {
    // The sum of nothing is a negative zero.
    (value * 10.0).round() / 10.0 + 0.0
}

impl Show for View {
    fn words(&self, paint: Paint) -> String {
        let capacity = &self.capacity;
        let memory = &capacity.memory;
        let mut lines = vec![
            format!(
                "sandboxes  {} ready, {} booting, {} ending, {} failed    runs {} in progress, {}/s    CPU {} %",
                capacity.sandboxes.ready,
                capacity.sandboxes.booting,
                capacity.sandboxes.ending,
                capacity.sandboxes.failed,
                capacity.execs.running,
                self.runs_per_second,
                self.cpu_percent
            ),
            format!(
                "memory     {} of {} counted{}",
                mebibytes(memory.used_mib),
                mebibytes(memory.budget_mib),
                memory
                    .host_available_mib
                    .map(|mib| format!(", the host has {} available", mebibytes(mib)))
                    .unwrap_or_default()
            ),
        ];
        if let Some(recent) = &capacity.recent {
            let span = Duration::from_secs(recent.seconds);
            lines.push(format!(
                "last {:>3} s creates {}",
                recent.seconds,
                latency(&recent.creates, span)
            ));
            lines.push(format!("           runs    {}", latency(&recent.runs, span)));
        }
        lines.extend(capacity.pools.iter().map(pool));
        lines.push(String::new());
        if self.sandboxes.is_empty() {
            lines.push("no sandboxes; `podflare sandbox create` makes one".to_owned());
            return lines.join("\n");
        }
        let head = [
            "ID", "STATE", "TEMPLATE", "AGE", "CPU %", "OWN", "RESIDENT", "RUNS", "NOW",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.sandboxes.iter().map(Row::cells));
        let text = table(&rows);
        let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
        lines.push(paint.bold(head));
        lines.push(rest.to_owned());
        lines.join("\n")
    }
}

impl Row {
    fn cells(&self) -> [String; 9] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let bytes = |bytes: Option<u64>| or_dash(bytes.map(|bytes| mebibytes(bytes / MIB)));
        [
            self.id.to_string(),
            state_name(self.state).to_owned(),
            self.template.clone(),
            since(self.created_at_ms),
            or_dash(self.cpu_percent.map(|percent| format!("{percent:.1}"))),
            bytes(self.memory_own_bytes),
            bytes(self.memory_resident_bytes),
            self.runs.to_string(),
            self.running_execs.to_string(),
        ]
    }
}

fn pool(pool: &PoolCapacity) -> String {
    let name = &pool.template;
    if pool.state != PoolState::Ready {
        return format!("pool       {name}: {}", pool_state_name(pool.state));
    }
    let rate = f64::from(pool.pool_hit_rate_bp) / 100.0;
    format!(
        "pool       {name}: {} of {} wait, {} being made, {} hits, {} misses ({rate} % hits)",
        pool.size, pool.target, pool.filling, pool.hits, pool.misses
    )
}

fn latency(latency: &Latency, span: Duration) -> String {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
    format!(
        "{}/s, p50 {}, p95 {}",
        rate(latency.count, span),
        ms(latency.p50_ms),
        ms(latency.p95_ms)
    )
}

//! The task that writes usage, audit rows and when keys were last used.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pod_types::ErrorChain;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::audit::AuditQueue;
use super::{Account, Tenants};
use crate::clock;
use crate::store::{AuditRow, KeyRow, StoreError, UsageDelta, UsageRow};

/// So many audit rows are written at once.
const BATCH: usize = 2048;

/// What is too old is looked for this often.
const PRUNE_EVERY: Duration = Duration::from_secs(300);

/// A database that does not work is complained about this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

const DAY_MS: u64 = 24 * 3600 * 1000;

/// What has come together since the last time.
struct Batch {
    usage: Vec<(Arc<Account>, UsageDelta)>,
    rows: Vec<AuditRow>,
    keys: Vec<(String, u64)>,
    /// Whether old rows are removed, too.
    prune: bool,
}

/// Writes from time to time until it is stopped, and once more then.
pub(super) async fn keep(tenants: Weak<Tenants>, mut queue: AuditQueue, stop: CancellationToken) {
    let mut rows = Vec::new();
    let (mut next_prune, mut next_complaint) = (Instant::now(), Instant::now());
    loop {
        let Some(flush) = tenants.upgrade().map(|tenants| tenants.config.flush) else {
            return;
        };
        gather(&mut queue, &mut rows, Instant::now() + flush, &stop).await;
        let Some(tenants) = tenants.upgrade() else { return };
        let stopping = stop.is_cancelled();
        rows.extend(queue.take_dropped());
        let prune = next_prune <= Instant::now();
        if prune {
            next_prune = Instant::now() + PRUNE_EVERY;
        }
        let count = rows.len();
        if let Err(error) = tenants.write(std::mem::take(&mut rows), prune).await {
            queue.lost(count);
            if next_complaint <= Instant::now() || stopping {
                next_complaint = Instant::now() + COMPLAIN_EVERY;
                tracing::error!(error = %ErrorChain(&error), "usage and audit rows cannot be written");
            }
        }
        if stopping && queue.rows.is_empty() {
            return;
        }
    }
}

/// Waits until it is time to write, or there is much to write, and takes what is there. Nobody is woken for a single row:
/// that would be a task switch beside every run.
async fn gather(queue: &mut AuditQueue, rows: &mut Vec<AuditRow>, until: Instant, stop: &CancellationToken) {
    if !queue.is_filling() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep_until(until) => {}
            () = queue.nudge.notified() => {}
        }
    }
    while rows.len() < BATCH
        && let Ok(row) = queue.rows.try_recv()
    {
        rows.push(row);
    }
}

impl Tenants {
    /// Writes what was used until now.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.write(Vec::new(), false).await
    }

    async fn write(&self, rows: Vec<AuditRow>, prune: bool) -> Result<(), StoreError> {
        let usage = self.accounts().into_iter();
        let usage = usage.filter_map(|account| Some((Arc::clone(&account), account.usage().take()?)));
        let keys = {
            let directory = self.directory();
            let news = directory.keys().map(|key| (key.id.to_string(), key.take_news()));
            news.filter_map(|(id, used)| Some((id, used?)))
                .collect::<Vec<_>>()
        };
        let batch = Batch {
            usage: usage.collect(),
            rows,
            keys,
            prune,
        };
        if batch.is_empty() {
            return Ok(());
        }
        let retention = self.retention();
        let batch = Arc::new(batch);
        let written = Arc::clone(&batch);
        let result = self
            .store
            .run(move |db| {
                let now_ms = clock::now_ms();
                let day = today();
                for (account, used) in &written.usage {
                    let row = UsageRow {
                        tenant_id: account.tenant().0,
                        tenant: account.name().to_owned(),
                        day,
                        date: String::new(),
                        used: *used,
                    };
                    row.add(db)?;
                }
                for row in &written.rows {
                    row.append(db)?;
                }
                for (id, at_ms) in &written.keys {
                    KeyRow::used(db, id, *at_ms)?;
                }
                if written.prune {
                    AuditRow::prune(db, now_ms, retention)?;
                    UsageRow::prune(db, day)?;
                }
                Ok(())
            })
            .await;
        // One that is only slow may still be written: counting twice would be worse than losing it.
        if matches!(&result, Err(error) if !matches!(error, StoreError::Silent(_))) {
            batch
                .usage
                .iter()
                .for_each(|(account, used)| account.usage().put_back(used));
        }
        result
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.usage.is_empty() && self.rows.is_empty() && self.keys.is_empty() && !self.prune
    }
}

/// Days since the Unix epoch.
pub(super) fn today() -> i64 {
    i64::try_from(clock::now_ms() / DAY_MS).unwrap_or(i64::MAX)
}

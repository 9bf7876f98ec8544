//! The task that puts events into the outbox: one transaction for all that has come together.

use std::sync::Arc;
use std::time::Duration;

use pod_types::ErrorChain;
use tokio::time::{Instant, sleep};

use super::Webhooks;
use super::hook::Hook;
use super::payload;
use super::queue::Entry;
use super::secret;
use crate::store::DeliveryRow;

const BATCH: usize = 256;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// A database that does not work is complained about this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Until the last call, and what is there then.
pub(super) async fn write(webhooks: Arc<Webhooks>) {
    loop {
        let entries = webhooks.queue.take(BATCH);
        if entries.is_empty() {
            if webhooks.last_call.is_cancelled() {
                return;
            }
            tokio::select! {
                () = webhooks.queue.news() => {}
                () = webhooks.last_call.cancelled() => {}
            }
            continue;
        }
        let rows = rows(&entries, webhooks.region.as_deref());
        commit(&webhooks, &rows).await;
        for (hook, _) in rows.iter() {
            hook.nudge.notify_one();
        }
    }
}

type Rows = Arc<Vec<(Arc<Hook>, DeliveryRow)>>;

fn rows(entries: &[Entry], region: Option<&str>) -> Rows {
    let mut rows = Vec::with_capacity(entries.len());
    for (told, listeners) in entries {
        let Ok(event) = payload::written(told, region) else {
            tracing::error!("the operating system gave no randomness for an event");
            continue;
        };
        for hook in listeners {
            let Ok(id) = secret::id("dlv_") else { continue };
            let row = DeliveryRow {
                number: 0,
                id,
                webhook_id: hook.id.clone(),
                sandbox: told.sandbox.to_string(),
                event_id: event.id.clone(),
                body: event.body.clone(),
                state: crate::store::PENDING.to_owned(),
                attempts: 0,
                created_at_ms: told.at_ms,
                next_ms: told.at_ms,
                replay_of: None,
            };
            rows.push((Arc::clone(hook), row));
        }
    }
    Arc::new(rows)
}

/// Tries until it has succeeded: nobody else knows of these events. A row that was written by an attempt of which
/// nothing was heard is not written again.
async fn commit(webhooks: &Webhooks, rows: &Rows) {
    let (mut pause, mut next_complaint) = (RETRY_FIRST, Instant::now());
    loop {
        let (written, counted) = (Arc::clone(rows), Arc::clone(rows));
        let work = move |db: &crate::store::Transaction<'_>| {
            let appended = written.iter().map(|(_, row)| row.append(db));
            appended.collect::<Result<Vec<bool>, _>>()
        };
        let apply = move |appended: Vec<bool>| {
            for ((hook, _), appended) in counted.iter().zip(appended) {
                if appended {
                    hook.more_pending();
                }
            }
        };
        let Err(error) = webhooks.store.change(work, apply).await else {
            return;
        };
        if next_complaint <= Instant::now() {
            next_complaint = Instant::now() + COMPLAIN_EVERY;
            tracing::error!(error = %ErrorChain(&error), events = rows.len(), "events cannot be written; trying again");
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

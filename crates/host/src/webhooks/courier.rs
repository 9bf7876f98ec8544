//! The task that makes one webhook's deliveries.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pod_types::ErrorChain;
use tokio::time::{sleep, timeout};

use super::hook::{Hook, learn};
use super::schedule::{self, HOLD_ATTEMPTS};
use super::send::Answered;
use super::target::Target;
use super::{HookError, Webhooks};
use crate::clock;
use crate::store::{AttemptRow, DeliveryRow, HookRow, Outcome, StoreError, Transaction};

/// Deliveries of one webhook at the same time, while the receiver takes them.
const AT_ONCE: usize = 4;

/// The clock of the machine may be set meanwhile, so nobody sleeps for longer.
const SLEEP_MAX: Duration = Duration::from_secs(60);

const RETRY: Duration = Duration::from_secs(2);

/// A receiver that takes something again after it has failed for longer than this gets at once what it has missed.
const RECOVERY_MS: u64 = 60_000;

/// What is kept of deliveries that are over, and how many may wait.
pub(super) const KEEP: u64 = 1_000;
const KEEP_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
pub(super) const PENDING_MAX: u64 = 10_000;

/// After so many rounds with something to do, old rows are looked for.
const PRUNE_EVERY: u32 = 64;

/// For as long as the webhook is there.
pub(super) async fn carry(webhooks: Arc<Webhooks>, hook: Arc<Hook>) {
    let mut rounds: u32 = 0;
    loop {
        let row = hook.row();
        if !row.enabled {
            hook.nudge.notified().await;
            continue;
        }
        let is_failing = row.failing_since_ms.is_some();
        match pick(&webhooks, &hook, if is_failing { 1 } else { AT_ONCE }).await {
            Ok((due, _)) if !due.is_empty() => {
                deliver(&webhooks, &hook, due).await;
                if rounds.is_multiple_of(PRUNE_EVERY) {
                    prune(&webhooks, &hook).await;
                }
                rounds = rounds.wrapping_add(1);
                if let Some(since_ms) = hook.row().failing_since_ms {
                    sleep(schedule::rest(since_ms, clock::now_ms())).await;
                }
            }
            Ok((_, next_ms)) => {
                let pause = next_ms.map(|at| Duration::from_millis(at.saturating_sub(clock::now_ms())));
                let pause = pause.unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
                // Whichever comes first; both lead to another look.
                let _ = timeout(pause, hook.nudge.notified()).await;
            }
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "cannot read the outbox; trying again");
                sleep(RETRY).await;
            }
        }
    }
}

/// What is to be sent now, and when there will be more.
async fn pick(
    webhooks: &Webhooks,
    hook: &Hook,
    limit: usize,
) -> Result<(Vec<DeliveryRow>, Option<u64>), StoreError> {
    let id = hook.id.clone();
    let now_ms = clock::now_ms();
    let work = move |db: &Transaction<'_>| {
        let due = DeliveryRow::due(db, &id, now_ms, HOLD_ATTEMPTS, limit)?;
        Ok((due, DeliveryRow::next_due(db, &id, now_ms)?))
    };
    webhooks.store.run(work).await
}

async fn deliver(webhooks: &Webhooks, hook: &Arc<Hook>, due: Vec<DeliveryRow>) {
    let sent = due.into_iter().map(|delivery| async {
        let (attempt, answered) = attempt(webhooks, hook, &delivery).await;
        (delivery, attempt, answered)
    });
    let sent = Arc::new(join_all(sent).await);
    // Until it is noted it counts as not sent: better twice than never.
    loop {
        let noted = Arc::clone(&sent);
        let result = update(webhooks, hook, move |db, row| {
            let failing_since_ms = row.failing_since_ms;
            for (delivery, attempt, answered) in noted.iter() {
                learn(row, answered, clock::now_ms());
                delivery.attempted(db, attempt, outcome(delivery, attempt, answered))?;
            }
            let now_ms = clock::now_ms();
            if row.failing_since_ms.is_none()
                && failing_since_ms.is_some_and(|since| now_ms.saturating_sub(since) > RECOVERY_MS)
            {
                DeliveryRow::hasten(db, &row.id, now_ms)?;
            }
            Ok(())
        });
        match result.await {
            Ok(()) | Err(HookError::Unknown) => break,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "deliveries cannot be noted; trying again");
                sleep(RETRY).await;
            }
        }
    }
    let over = sent.iter().filter(|(delivery, attempt, answered)| {
        !matches!(outcome(delivery, attempt, answered), Outcome::Again(_))
    });
    let over = over.count() as u64;
    hook.fewer_pending(over);
}

/// Sends it once, and nothing else.
pub(super) async fn attempt(
    webhooks: &Webhooks,
    hook: &Hook,
    delivery: &DeliveryRow,
) -> (AttemptRow, Answered) {
    let parcel = hook.parcel(delivery);
    let receiver = match Target::parse(&parcel.url, webhooks.sender.allowed()) {
        Ok(target) => format!("{}:{}", target.authority, target.port),
        Err(_) => String::new(),
    };
    let _pass = webhooks.gates.enter(&receiver).await;
    let at_ms = clock::now_ms();
    let answered = webhooks.sender.send(&parcel).await;
    tracing::debug!(
        webhook = hook.id,
        delivery = delivery.id,
        status = answered.status,
        error = answered.error,
        "delivery tried"
    );
    let attempt = AttemptRow {
        attempt: delivery.attempts.saturating_add(1),
        at_ms,
        duration_ms: schedule::millis(answered.took),
        status: answered.status,
        error: answered.error.clone(),
        answer: answered.excerpt.clone(),
    };
    (attempt, answered)
}

fn outcome(delivery: &DeliveryRow, attempt: &AttemptRow, answered: &Answered) -> Outcome {
    if answered.error.is_none() {
        return Outcome::Delivered;
    }
    let now_ms = attempt.at_ms.saturating_add(attempt.duration_ms);
    schedule::after_failure(delivery.created_at_ms, attempt.attempt, now_ms, chance())
}

/// Changes a webhook's row in the store's own thread, where nobody else changes it at the same time.
pub(super) async fn update<F>(webhooks: &Webhooks, hook: &Arc<Hook>, change: F) -> Result<(), HookError>
where
    F: FnOnce(&Transaction<'_>, &mut HookRow) -> Result<(), StoreError> + Send + 'static,
{
    let (read, applied) = (Arc::clone(hook), Arc::clone(hook));
    let work = move |db: &Transaction<'_>| {
        if read.gone.is_cancelled() {
            return Ok(None);
        }
        let before = read.row();
        let mut row = before.clone();
        change(db, &mut row)?;
        if row != before {
            row.put(db)?;
        }
        Ok(Some(row))
    };
    let apply = move |row: Option<HookRow>| row.map(|row| applied.set(row));
    let changed = webhooks
        .store
        .change(work, apply)
        .await
        .map_err(HookError::Store)?;
    changed.ok_or(HookError::Unknown)
}

async fn prune(webhooks: &Webhooks, hook: &Arc<Hook>) {
    let id = hook.id.clone();
    let oldest_ms = clock::now_ms().saturating_sub(schedule::millis(KEEP_AGE));
    let counted = Arc::clone(hook);
    let work = move |db: &Transaction<'_>| DeliveryRow::prune(db, &id, oldest_ms, KEEP, PENDING_MAX);
    let pruned = webhooks
        .store
        .change(work, move |left| counted.set_pending(left))
        .await;
    if let Err(error) = pruned {
        tracing::debug!(error = %ErrorChain(&error), "old deliveries are not removed; trying again later");
    }
}

/// Between 0 and 1, so that not everybody comes back at the same moment.
fn chance() -> f64 {
    let mut byte = [128];
    // Without randomness it is the middle.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

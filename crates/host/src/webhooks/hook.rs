//! One webhook in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::{WebhookEvent, WebhookInfo};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::schedule;
use super::secret;
use super::send::{Answered, Parcel};
use crate::auth::Tenant;
use crate::clock;
use crate::store::{DeliveryRow, HookRow};

/// Gone: the receiver says so itself.
const GONE: u16 = 410;

#[derive(Debug)]
pub(crate) struct Hook {
    pub(super) tenant: Tenant,
    pub(super) id: String,
    /// Changed by the store's thread only, right after a commit.
    row: Mutex<HookRow>,
    /// Deliveries that wait, as far as is known without asking.
    pending: AtomicU64,
    /// There is something to send, or something has changed.
    pub(super) nudge: Notify,
    /// It was removed.
    pub(super) gone: CancellationToken,
}

impl Hook {
    pub(super) fn new(row: HookRow, pending: u64) -> Self {
        Self {
            tenant: Tenant(row.tenant_id),
            id: row.id.clone(),
            row: Mutex::new(row),
            pending: AtomicU64::new(pending),
            nudge: Notify::new(),
            gone: CancellationToken::new(),
        }
    }

    pub(super) fn row(&self) -> HookRow {
        self.lock().clone()
    }

    pub(super) fn set(&self, row: HookRow) {
        *self.lock() = row;
        self.nudge.notify_one();
    }

    pub(super) fn wants(&self, event: WebhookEvent) -> bool {
        let row = self.lock();
        row.enabled && row.events.contains(&event)
    }

    pub(super) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn more_pending(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fewer_pending(&self, count: u64) {
        let less = |pending: u64| Some(pending.saturating_sub(count));
        // Always some, so it never fails.
        let _ = self
            .pending
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(super) fn set_pending(&self, count: u64) {
        self.pending.store(count, Ordering::Relaxed);
    }

    pub(crate) fn describe(&self) -> WebhookInfo {
        let now_ms = clock::now_ms();
        let row = self.row();
        WebhookInfo {
            id: row.id,
            url: row.url,
            events: row.events,
            description: row.description,
            enabled: row.enabled,
            disabled_reason: row.disabled_reason,
            created_at_ms: row.created_at_ms,
            failing_since_ms: row.failing_since_ms,
            last_success_ms: row.last_success_ms,
            old_secret_until_ms: row
                .old_secret
                .map(|(_, until)| until)
                .filter(|until| *until > now_ms),
            pending: self.pending(),
        }
    }

    /// What is sent for a delivery now.
    pub(super) fn parcel(&self, delivery: &DeliveryRow) -> Parcel {
        let row = self.lock();
        let now_ms = clock::now_ms();
        let old = row.old_secret.as_ref().filter(|(_, until)| *until > now_ms);
        let secrets = std::iter::once(row.secret.as_str()).chain(old.map(|(secret, _)| secret.as_str()));
        let timestamp_s = now_ms / 1000;
        Parcel {
            url: row.url.clone(),
            signatures: secret::signatures(secrets, &delivery.event_id, timestamp_s, &delivery.body),
            id: delivery.event_id.clone(),
            timestamp_s,
            body: delivery.body.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HookRow> {
        // Every change is a single statement.
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes in a webhook's row what came of an attempt.
pub(super) fn learn(row: &mut HookRow, answered: &Answered, now_ms: u64) {
    let Some(error) = &answered.error else {
        row.failing_since_ms = None;
        row.last_success_ms = Some(now_ms);
        return;
    };
    let since = *row.failing_since_ms.get_or_insert(now_ms);
    let reason = if answered.status == Some(GONE) {
        "the receiver answered 410 Gone".to_owned()
    } else if schedule::is_hopeless(since, now_ms) {
        let days = schedule::DISABLE_AFTER.as_secs() / (24 * 3600);
        format!("nothing could be delivered for {days} days; last: {error}")
    } else {
        return;
    };
    if row.enabled {
        tracing::warn!(webhook = row.id, reason, "webhook disabled");
        row.enabled = false;
        row.disabled_reason = Some(reason);
    }
}

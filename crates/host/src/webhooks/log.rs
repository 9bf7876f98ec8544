//! What was delivered, and delivering it again.

use std::sync::Arc;

use api::{AttemptInfo, DeliveriesQuery, DeliveryInfo, DeliveryList, DeliveryState, WEBHOOK_TEST_TYPE};

use super::courier::{attempt, update};
use super::hook::learn;
use super::payload::{Event, blank};
use super::{HookError, Webhooks, secret};
use crate::auth::Tenant;
use crate::clock;
use crate::store::{AttemptRow, DeliveryRow, Outcome, PENDING, StoreError, Transaction};

impl Webhooks {
    /// A page of a webhook's deliveries, newest first.
    pub(crate) async fn deliveries(
        &self,
        tenant: Tenant,
        id: &str,
        query: DeliveriesQuery,
    ) -> Result<DeliveryList, HookError> {
        let hook = self.find(tenant, id)?;
        let id = hook.id.clone();
        let limit = query.limit;
        let work = move |db: &Transaction<'_>| {
            DeliveryRow::log(db, &id, query.before.as_deref(), query.limit.saturating_add(1))
        };
        let mut rows = self.store.run(work).await.map_err(HookError::Store)?;
        let more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next_before = more.then(|| rows.last().map(|(row, _)| row.id.clone())).flatten();
        let deliveries = rows.into_iter().map(|(row, attempts)| describe(row, attempts));
        Ok(DeliveryList {
            deliveries: deliveries.collect::<Result<_, _>>().map_err(HookError::Store)?,
            next_before,
        })
    }

    /// Sends an event again, as a delivery of its own.
    pub(crate) async fn replay(
        &self,
        tenant: Tenant,
        id: &str,
        delivery: &str,
    ) -> Result<DeliveryInfo, HookError> {
        let hook = self.find(tenant, id)?;
        if !hook.row().enabled {
            return Err(HookError::Disabled);
        }
        let new = secret::id("dlv_").map_err(HookError::NoRandomness)?;
        let (webhook, old, counted) = (hook.id.clone(), delivery.to_owned(), Arc::clone(&hook));
        let work = move |db: &Transaction<'_>| {
            let Some(found) = DeliveryRow::find(db, &webhook, &old)? else {
                return Ok(None);
            };
            let now_ms = clock::now_ms();
            let again = DeliveryRow {
                number: 0,
                id: new,
                // It was asked for now, whatever else waits.
                sandbox: String::new(),
                state: PENDING.to_owned(),
                attempts: 0,
                created_at_ms: now_ms,
                next_ms: now_ms,
                replay_of: Some(found.id.clone()),
                ..found
            };
            Ok(again.append(db)?.then_some(again))
        };
        let apply = move |again: Option<DeliveryRow>| {
            again.inspect(|_| {
                counted.more_pending();
                counted.nudge.notify_one();
            })
        };
        let again = self.store.change(work, apply).await.map_err(HookError::Store)?;
        let again = again.ok_or(HookError::UnknownDelivery)?;
        describe(again, Vec::new()).map_err(HookError::Store)
    }

    /// Sends a test event at once, and says what came of it.
    pub(crate) async fn test(&self, tenant: Tenant, id: &str) -> Result<DeliveryInfo, HookError> {
        let hook = self.find(tenant, id)?;
        let now_ms = clock::now_ms();
        let payload = blank(WEBHOOK_TEST_TYPE, now_ms, self.region.as_deref());
        let event = Event::of(&payload.map_err(HookError::NoRandomness)?);
        let mut delivery = DeliveryRow {
            number: 0,
            id: secret::id("dlv_").map_err(HookError::NoRandomness)?,
            webhook_id: hook.id.clone(),
            sandbox: String::new(),
            event_id: event.id,
            body: event.body,
            state: "failed".to_owned(),
            attempts: 0,
            created_at_ms: now_ms,
            next_ms: now_ms,
            replay_of: None,
        };
        let (tried, answered) = attempt(self, &hook, &delivery).await;
        let outcome = match answered.error {
            None => Outcome::Delivered,
            Some(_) => Outcome::Failed,
        };
        if outcome == Outcome::Delivered {
            "delivered".clone_into(&mut delivery.state);
        }
        let (row, noted) = (delivery.clone(), tried.clone());
        update(self, &hook, move |db, hook| {
            // A test that fails says nothing about events that were lost.
            if outcome == Outcome::Delivered {
                learn(hook, &answered, clock::now_ms());
            }
            if row.append(db)?
                && let Some(row) = DeliveryRow::find(db, &row.webhook_id, &row.id)?
            {
                row.attempted(db, &noted, outcome)?;
            }
            Ok(())
        })
        .await?;
        describe(delivery, vec![tried]).map_err(HookError::Store)
    }
}

fn describe(row: DeliveryRow, attempts: Vec<AttemptRow>) -> Result<DeliveryInfo, StoreError> {
    let state = match row.state.as_str() {
        "delivered" => DeliveryState::Delivered,
        "failed" => DeliveryState::Failed,
        _ => DeliveryState::Pending,
    };
    let payload = serde_json::from_str(&row.body).map_err(|_| StoreError::Unreadable {
        what: "event",
        text: row.body.chars().take(200).collect(),
    })?;
    let shown = |attempt: AttemptRow| AttemptInfo {
        attempt: attempt.attempt,
        at_ms: attempt.at_ms,
        duration_ms: attempt.duration_ms,
        status: attempt.status,
        error: attempt.error,
        answer: attempt.answer,
    };
    Ok(DeliveryInfo {
        id: row.id,
        state,
        created_at_ms: row.created_at_ms,
        next_attempt_ms: (state == DeliveryState::Pending).then_some(row.next_ms),
        replay_of: row.replay_of,
        payload,
        attempts: attempts.into_iter().map(shown).collect(),
    })
}

//! What tenants do with their webhooks.

use std::sync::Arc;
use std::time::Duration;

use api::{WebhookChange, WebhookRequest};
use pod_types::{ErrorChain, IdError};
use thiserror::Error;

use super::courier::update;
use super::hook::Hook;
use super::target::{Target, TargetError};
use super::{Webhooks, all_events, secret};
use crate::auth::Tenant;
use crate::clock;
use crate::store::{DeliveryRow, HookRow, StoreError};

const PER_TENANT_MAX: usize = 20;
/// Each has a task and, while it sends, a few connections.
const ON_HOST_MAX: usize = 500;

/// Why something is not done with a webhook; nothing has changed.
#[derive(Debug, Error)]
pub(crate) enum HookError {
    #[error("webhook not found")]
    Unknown,
    #[error("delivery not found")]
    UnknownDelivery,
    #[error("url: {}", ErrorChain(.0))]
    Url(TargetError),
    #[error("a tenant has at most {PER_TENANT_MAX} webhooks")]
    TooMany,
    #[error("this host has at most {ON_HOST_MAX} webhooks")]
    HostFull,
    #[error("the webhook is disabled")]
    Disabled,
    #[error("there is no randomness for an id")]
    NoRandomness(#[source] IdError),
    #[error(transparent)]
    Store(StoreError),
}

impl Webhooks {
    /// A new webhook, and its secret, which nobody is told again.
    pub(crate) async fn create(
        self: &Arc<Self>,
        tenant: Tenant,
        request: WebhookRequest,
    ) -> Result<(Arc<Hook>, String), HookError> {
        Target::parse(&request.url, self.sender.allowed()).map_err(HookError::Url)?;
        let row = HookRow {
            id: secret::id("whk_").map_err(HookError::NoRandomness)?,
            tenant_id: tenant.0,
            url: request.url,
            events: if request.events.is_empty() {
                all_events()
            } else {
                request.events
            },
            description: request.description.unwrap_or_default(),
            secret: secret::mint().map_err(HookError::NoRandomness)?,
            old_secret: None,
            enabled: true,
            disabled_reason: None,
            created_at_ms: clock::now_ms(),
            failing_since_ms: None,
            last_success_ms: None,
        };
        let secret = row.secret.clone();
        let (counting, adding) = (Arc::clone(self), Arc::clone(self));
        // Counted in the store's thread, where nobody else adds one at the same time.
        let work = move |db: &crate::store::Transaction<'_>| match counting.count(tenant) {
            (own, _) if own >= PER_TENANT_MAX => Ok(Err(HookError::TooMany)),
            (_, all) if all >= ON_HOST_MAX => Ok(Err(HookError::HostFull)),
            _ => {
                row.put(db)?;
                Ok(Ok(row))
            }
        };
        let runtime = tokio::runtime::Handle::current();
        let apply = move |row: Result<HookRow, HookError>| {
            let hook = Arc::new(Hook::new(row?, 0));
            let _runtime = runtime.enter();
            adding.add(Arc::clone(&hook));
            Ok(hook)
        };
        let hook = self.store.change(work, apply).await.map_err(HookError::Store)??;
        Ok((hook, secret))
    }

    pub(crate) async fn set(
        &self,
        tenant: Tenant,
        id: &str,
        change: WebhookChange,
    ) -> Result<Arc<Hook>, HookError> {
        let hook = self.find(tenant, id)?;
        if let Some(url) = &change.url {
            Target::parse(url, self.sender.allowed()).map_err(HookError::Url)?;
        }
        update(self, &hook, move |db, row| {
            let events = change.events.map(|events| match events.is_empty() {
                true => all_events(),
                false => events,
            });
            row.events = events.unwrap_or_else(|| row.events.clone());
            row.description = change.description.unwrap_or_else(|| row.description.clone());
            let starts = change.enabled == Some(true) && !row.enabled;
            row.enabled = change.enabled.unwrap_or(row.enabled);
            if change.enabled.is_some() {
                row.disabled_reason = None;
            }
            if starts || change.url.is_some() {
                row.failing_since_ms = None;
                DeliveryRow::hasten(db, &row.id, clock::now_ms())?;
            }
            row.url = change.url.unwrap_or_else(|| row.url.clone());
            Ok(())
        })
        .await?;
        Ok(hook)
    }

    /// One that is not there counts as removed.
    pub(crate) async fn delete(self: &Arc<Self>, tenant: Tenant, id: &str) -> Result<(), HookError> {
        let Ok(hook) = self.find(tenant, id) else {
            return Ok(());
        };
        let (id, this) = (hook.id.clone(), Arc::clone(self));
        let apply = move |()| this.remove(&hook);
        let deleted = self.store.change(move |db| HookRow::delete(db, &id), apply);
        deleted.await.map_err(HookError::Store)
    }

    /// A new secret; the old one counts beside it for a while.
    pub(crate) async fn rotate(
        &self,
        tenant: Tenant,
        id: &str,
        grace: Duration,
    ) -> Result<(Arc<Hook>, String), HookError> {
        let hook = self.find(tenant, id)?;
        let new = secret::mint().map_err(HookError::NoRandomness)?;
        let secret = new.clone();
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        update(self, &hook, move |_, row| {
            let old = std::mem::replace(&mut row.secret, new);
            row.old_secret = (grace_ms > 0).then(|| (old, clock::now_ms().saturating_add(grace_ms)));
            Ok(())
        })
        .await?;
        Ok((hook, secret))
    }
}

//! Webhooks: what happens to a tenant's sandboxes is posted to the URLs it has registered, at least once each.
//!
//! ```text
//!  Happenings ──▶ Queue ──▶ writer ──one transaction──▶ deliveries (SQLite) ◀──▶ courier of each webhook ──▶ receiver
//!                                        └────────nudge──────────────────────────────┘
//! ```
//!
//! * Telling is a push to a queue in memory, and only for events that somebody wants. The writer commits what has come
//!   together, a moment later; from then on an event survives the daemon.
//! * Each webhook has a courier of its own, so a receiver that is slow or dead holds up nobody else. It takes what is due
//!   from the database, a few at once, and one at a time while the receiver fails.
//! * What is told of one sandbox is told in order, as long as the receiver takes it: see [`schedule`].
//! * A receiver's address is judged when it is connected to: see [`address`].

mod address;
mod changes;
mod courier;
mod gates;
mod hook;
mod log;
mod payload;
mod queue;
mod schedule;
mod secret;
mod send;
mod target;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use api::WebhookEvent;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Tenant;
use crate::happenings::Told;
use crate::store::{DeliveryRow, HookRow, Store, StoreError};

pub use address::{Allowed, NotANetwork};
pub(crate) use changes::HookError;
pub(crate) use hook::Hook;

use gates::Gates;
use queue::Queue;
use send::Sender;

/// How long the last events may take to be written when the host stops.
const CLOSE_BOUND: Duration = Duration::from_secs(5);

pub(crate) struct Webhooks {
    store: Store,
    hooks: RwLock<BTreeMap<Tenant, Vec<Arc<Hook>>>>,
    queue: Queue,
    sender: Sender,
    gates: Gates,
    region: Option<String>,
    /// Nothing more comes: write what is there.
    last_call: CancellationToken,
    writer: TaskTracker,
    stop: CancellationToken,
    couriers: TaskTracker,
}

impl Webhooks {
    /// Reads the webhooks and begins to send what was left. Blocks meanwhile; to be called within a runtime.
    pub(crate) fn open(
        store: Store,
        allowed: Allowed,
        region: Option<String>,
    ) -> Result<Arc<Self>, StoreError> {
        let (rows, pending) = store.run_blocking(|db| Ok((HookRow::all(db)?, DeliveryRow::pending(db)?)))?;
        let pending: BTreeMap<_, _> = pending.into_iter().collect();
        let sender = Sender::new(allowed).map_err(|error| StoreError::Unreadable {
            what: "TLS configuration",
            text: error.to_string(),
        })?;
        let this = Arc::new(Self {
            store,
            hooks: RwLock::default(),
            queue: Queue::default(),
            sender,
            gates: Gates::default(),
            region,
            last_call: CancellationToken::new(),
            writer: TaskTracker::new(),
            stop: CancellationToken::new(),
            couriers: TaskTracker::new(),
        });
        for row in rows {
            let waiting = pending.get(&row.id).copied().unwrap_or(0);
            this.add(Arc::new(Hook::new(row, waiting)));
        }
        this.writer.spawn(writer::write(Arc::clone(&this)));
        Ok(this)
    }

    /// Notes an event for those who want it. Never waits.
    pub(crate) fn tell(&self, told: &Told) {
        let event = payload::event(&told.happening);
        let hooks = self.hooks();
        let Some(of_tenant) = hooks.get(&told.tenant) else {
            return;
        };
        let listeners: Vec<_> = of_tenant
            .iter()
            .filter(|hook| hook.wants(event))
            .cloned()
            .collect();
        drop(hooks);
        if !listeners.is_empty() {
            self.queue.push(told.clone(), listeners);
        }
    }

    /// Waits while more is to be written than the database takes; not for long. For those whose wish will lead to
    /// more events.
    pub(crate) async fn pace(&self) {
        self.queue.pace().await;
    }

    /// Those of a tenant, oldest first.
    pub(crate) fn list(&self, tenant: Tenant) -> Vec<Arc<Hook>> {
        self.hooks().get(&tenant).cloned().unwrap_or_default()
    }

    pub(crate) fn find(&self, tenant: Tenant, id: &str) -> Result<Arc<Hook>, HookError> {
        let hooks = self.hooks();
        let mut of_tenant = hooks.get(&tenant).into_iter().flatten();
        of_tenant
            .find(|hook| hook.id == id)
            .cloned()
            .ok_or(HookError::Unknown)
    }

    /// Its rows have gone with the tenant's.
    pub(crate) fn forget(&self, tenant: Tenant) {
        for hook in self.hooks_mut().remove(&tenant).unwrap_or_default() {
            hook.gone.cancel();
        }
    }

    /// Deliveries that wait, of all.
    pub(crate) fn pending(&self) -> u64 {
        self.hooks().values().flatten().map(|hook| hook.pending()).sum()
    }

    /// Writes what was told, and stops sending. What is not sent yet is sent after the next start.
    pub(crate) async fn close(&self) {
        self.last_call.cancel();
        self.writer.close();
        if timeout(CLOSE_BOUND, self.writer.wait()).await.is_err() {
            tracing::error!(
                events = self.queue.len(),
                "events could not be written before the end"
            );
        }
        self.stop.cancel();
        self.couriers.close();
        drop(timeout(CLOSE_BOUND, self.couriers.wait()).await);
    }

    /// Makes a webhook known and gives it a courier.
    fn add(self: &Arc<Self>, hook: Arc<Hook>) {
        let courier = courier::carry(Arc::clone(self), Arc::clone(&hook));
        let (stop, gone) = (self.stop.clone(), hook.gone.clone());
        self.couriers.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = gone.cancelled() => {}
                () = courier => {}
            }
        });
        self.hooks_mut().entry(hook.tenant).or_default().push(hook);
    }

    fn remove(&self, hook: &Hook) {
        let mut hooks = self.hooks_mut();
        if let Some(of_tenant) = hooks.get_mut(&hook.tenant) {
            of_tenant.retain(|known| known.id != hook.id);
            if of_tenant.is_empty() {
                hooks.remove(&hook.tenant);
            }
        }
        drop(hooks);
        hook.gone.cancel();
    }

    fn count(&self, tenant: Tenant) -> (usize, usize) {
        let hooks = self.hooks();
        let own = hooks.get(&tenant).map_or(0, Vec::len);
        (own, hooks.values().map(Vec::len).sum())
    }

    fn hooks(&self) -> RwLockReadGuard<'_, BTreeMap<Tenant, Vec<Arc<Hook>>>> {
        // Every change is a single statement.
        self.hooks
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn hooks_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<Tenant, Vec<Arc<Hook>>>> {
        self.hooks
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks")
            .field("hooks", &self.hooks().len())
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

/// Every event, for a webhook that names none.
fn all_events() -> Vec<WebhookEvent> {
    WebhookEvent::ALL.to_vec()
}

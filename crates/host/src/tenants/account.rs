//! One tenant in memory: what it may have, what it has, what it has used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{Quota, QuotaRefused};
use pod_types::{Limits, Overrides, Tier};

use super::usage::Usage;
use crate::auth::Tenant;
use crate::store::TenantRow;

#[derive(Debug)]
pub(crate) struct Account {
    tenant: Tenant,
    name: String,
    created_at_ms: u64,
    terms: Mutex<Terms>,
    quota: Mutex<Quota>,
    runs: AtomicU64,
    /// Sandboxes whose VM is not gone yet, those that nobody knows any more included.
    owners: AtomicU64,
    usage: Usage,
}

#[derive(Clone, Debug)]
struct Terms {
    tier: Tier,
    overrides: Overrides,
    limits: Limits,
    wake: Option<bool>,
}

/// Room for one sandbox, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    account: Arc<Account>,
    begun: bool,
}

/// Room for one run; the same.
#[derive(Debug)]
pub(crate) struct RunSlot(Arc<Account>);

impl Account {
    pub(super) fn new(row: TenantRow) -> Self {
        Self {
            tenant: Tenant(row.id),
            name: row.name,
            created_at_ms: row.created_at_ms,
            terms: Mutex::new(Terms::new(row.tier, row.overrides, row.wake)),
            quota: Mutex::default(),
            runs: AtomicU64::new(0),
            owners: AtomicU64::new(0),
            usage: Usage::default(),
        }
    }

    pub(crate) fn tenant(&self) -> Tenant {
        self.tenant
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn created_at_ms(&self) -> u64 {
        self.created_at_ms
    }

    pub(crate) fn tier(&self) -> Tier {
        self.terms().tier
    }

    pub(crate) fn overrides(&self) -> Overrides {
        self.terms().overrides.clone()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.terms().limits
    }

    /// Whether requests wake its frozen sandboxes, if that is not as the host has it.
    pub(crate) fn wake(&self) -> Option<bool> {
        self.terms().wake
    }

    /// Holds for what comes from now on; what runs already stays.
    pub(super) fn set_terms(&self, tier: Tier, overrides: Overrides, wake: Option<bool>) {
        *self.terms() = Terms::new(tier, overrides, wake);
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Room for so many more sandboxes.
    pub(crate) fn admit(self: &Arc<Self>, now: Duration, count: u8) -> Result<Vec<Slot>, QuotaRefused> {
        let limits = self.limits();
        self.quota().admit(now, count.into(), &limits)?;
        let slot = |_| Slot {
            account: Arc::clone(self),
            begun: false,
        };
        Ok((0..count).map(slot).collect())
    }

    /// A place for a sandbox that exists already, whatever the limits are by now.
    pub(crate) fn readmit(self: &Arc<Self>) -> Slot {
        self.quota().readmit();
        Slot {
            account: Arc::clone(self),
            begun: false,
        }
    }

    /// Room for one more run; the most there may be when there is none.
    pub(crate) fn begin_run(self: &Arc<Self>) -> Result<RunSlot, u64> {
        let before = self.runs.fetch_add(1, Ordering::Relaxed);
        let slot = RunSlot(Arc::clone(self));
        match self.limits().runs {
            Some(max) if before >= max => Err(max),
            Some(_) | None => Ok(slot),
        }
    }

    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Sandboxes that clients know of.
    pub(crate) fn live(&self) -> u64 {
        self.usage.live()
    }

    /// Those, and what is being made.
    pub(crate) fn held(&self) -> u64 {
        self.quota().held()
    }

    pub(crate) fn owner_begins(&self) {
        self.owners.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn owner_ends(&self) {
        self.owners.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn owners(&self) -> u64 {
        self.owners.load(Ordering::Relaxed)
    }

    fn terms(&self) -> MutexGuard<'_, Terms> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terms {
    fn new(tier: Tier, overrides: Overrides, wake: Option<bool>) -> Self {
        Self {
            limits: Limits::new(tier, &overrides),
            tier,
            overrides,
            wake,
        }
    }
}

impl Slot {
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The sandbox exists: its time counts.
    pub(crate) fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            self.account.usage.sandbox_begins();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.begun {
            self.account.usage.sandbox_ends();
        }
        self.account.quota().release();
    }
}

impl Drop for RunSlot {
    fn drop(&mut self) {
        self.0.runs.fetch_sub(1, Ordering::Relaxed);
    }
}

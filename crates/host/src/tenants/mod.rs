//! Who uses this host: tenants, their keys, what they may have and what they have used.
//!
//! ```text
//!  request ──▶ Directory (memory) ──▶ Account: quota, runs, usage ──every few seconds──▶ store
//!                  ▲                      │
//!  operator ──▶ changes ──▶ store ──applied by its thread, in the order of commits
//! ```
//!
//! A request reads memory only. A change is written first and applied by the store's own thread when it is on the
//! disk, so memory and disk agree and two changes cannot pass each other. Usage, audit rows and when keys were last used
//! are written in batches: a daemon that is killed loses a few seconds of them.

mod account;
mod audit;
mod changes;
mod directory;
mod keeper;
mod key;
mod reports;
mod turns;
mod usage;

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use pod_types::{Overrides, Tier};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::{AuthConfig, Refusal, Tenant, bearer};
use crate::clock;
use crate::store::{CheckReport, KeyRow, NewTenant, Retention, Store, StoreError, TenantRow};

pub(crate) use account::{Account, RunSlot, Slot};
pub(crate) use audit::{Action, AuditLog, AuditNote, Caller};
pub(crate) use changes::ChangeError;
pub(crate) use key::fingerprint;
pub(crate) use turns::{Turn, TurnRefused, Turnstile};

use audit::AuditQueue;
use directory::Directory;

/// The tenant of calls without a key. It always exists.
pub(crate) const DEFAULT_TENANT: &str = "default";

/// What the host is told about tenants.
#[derive(Clone, Debug)]
pub struct TenantsConfig {
    /// Of tenants that are not given one, `default` and those of keys in the environment included.
    pub default_tier: Tier,
    /// Audit rows older than this are removed.
    pub audit_age: Duration,
    /// Of what tenants did, so many rows are kept.
    pub audit_rows: u64,
    /// Usage and audit rows are written this often.
    pub flush: Duration,
}

impl Default for TenantsConfig {
    fn default() -> Self {
        Self {
            // Whose host it is decides what is fair on it; a cap that nobody asked for would only be in the way.
            default_tier: Tier::Unlimited,
            audit_age: Duration::from_secs(90 * 24 * 3600),
            audit_rows: 100_000,
            flush: Duration::from_secs(2),
        }
    }
}

pub(crate) struct Tenants {
    store: Store,
    directory: RwLock<Directory>,
    default: Arc<Account>,
    config: TenantsConfig,
    audit: AuditLog,
    keeper: std::sync::Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    start: Instant,
}

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) account: Arc<Account>,
    pub(crate) key_id: Option<Arc<str>>,
}

impl Tenants {
    /// Reads everything into memory and makes the tenants that must exist. Blocks meanwhile; to be called within a
    /// runtime.
    pub(crate) fn open(
        store: Store,
        config: TenantsConfig,
        auth: &AuthConfig,
    ) -> Result<Arc<Self>, StoreError> {
        let now_ms = clock::now_ms();
        let new = |name: String| NewTenant {
            name,
            tier: config.default_tier,
            overrides: Overrides::new(),
            wake: None,
            created_at_ms: now_ms,
        };
        let environment: Vec<_> = auth.environment_keys().collect();
        let names: Vec<_> = environment
            .iter()
            .map(|digest| new(fingerprint(digest)))
            .collect();
        let default = new(DEFAULT_TENANT.to_owned());
        let (default, of_environment, tenants, keys) = store.run_blocking(move |db| {
            let default = TenantRow::ensure(db, default)?.id;
            let ids = names.into_iter().map(|new| Ok(TenantRow::ensure(db, new)?.id));
            let ids = ids.collect::<Result<Vec<_>, StoreError>>()?;
            Ok((default, ids, TenantRow::all(db)?, KeyRow::all(db)?))
        })?;
        let mut directory = Directory::default();
        tenants.into_iter().for_each(|row| drop(directory.put(row)));
        keys.into_iter().for_each(|row| directory.put_key(row));
        for (digest, id) in environment.into_iter().zip(of_environment) {
            directory.put_environment_key(digest, Tenant(id), now_ms);
        }
        // It was made a moment ago, in the same transaction that was read.
        let default = directory
            .account(Tenant(default))
            .ok_or_else(|| StoreError::Unreadable {
                what: "tenant",
                text: DEFAULT_TENANT.to_owned(),
            })?;
        let (audit, queue) = AuditQueue::new();
        let this = Arc::new(Self {
            store,
            directory: RwLock::new(directory),
            default,
            config,
            audit,
            keeper: std::sync::Mutex::default(),
            stop: CancellationToken::new(),
            start: Instant::now(),
        });
        let keeper = tokio::spawn(keeper::keep(Arc::downgrade(&this), queue, this.stop.clone()));
        *this
            .keeper
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(keeper);
        Ok(this)
    }

    /// Looks at an `Authorization` header's value. Where nobody is asked, a key that is known counts all the same, and
    /// one that was revoked or has expired is refused: its holder should learn of it.
    pub(crate) fn admit(&self, header: Option<&[u8]>, is_open: bool) -> Result<Admitted, Refusal> {
        let nobody = || Admitted {
            account: Arc::clone(&self.default),
            key_id: None,
        };
        let Some(presented) = header.and_then(bearer) else {
            return if is_open {
                Ok(nobody())
            } else {
                Err(Refusal::Missing)
            };
        };
        let key = match self.directory().find(presented) {
            Some(key) => key,
            None if is_open => return Ok(nobody()),
            None if key::is_mistyped(presented) => return Err(Refusal::Mistyped),
            None => return Err(Refusal::Unknown),
        };
        let now_ms = clock::now_ms();
        if !key.is_valid(now_ms) {
            return Err(Refusal::Revoked);
        }
        key.use_at(now_ms);
        Ok(Admitted {
            account: Arc::clone(&key.account),
            key_id: Some(Arc::clone(&key.id)),
        })
    }

    /// Whether an `Authorization` header's value has a key of this host's, or what looks like one.
    pub(crate) fn knows(&self, header: &[u8]) -> bool {
        bearer(header).is_some_and(|presented| {
            presented.starts_with(b"pf_") || self.directory().find(presented).is_some()
        })
    }

    /// Somebody of a tenant's who has come without its key.
    pub(crate) fn guest_of(&self, tenant: Tenant) -> Option<Admitted> {
        Some(Admitted {
            account: self.account(tenant)?,
            key_id: None,
        })
    }

    /// Keys that would let somebody in.
    pub(crate) fn valid_keys(&self) -> usize {
        let now_ms = clock::now_ms();
        self.directory().keys().filter(|key| key.is_valid(now_ms)).count()
    }

    pub(crate) fn account(&self, tenant: Tenant) -> Option<Arc<Account>> {
        self.directory().account(tenant)
    }

    pub(crate) fn accounts(&self) -> Vec<Arc<Account>> {
        self.directory().accounts().cloned().collect()
    }

    pub(crate) fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Time as quotas count it.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether a tenant has less than an equal share of the sandboxes there are.
    pub(crate) fn is_below_share(&self, tenant: &Account) -> bool {
        let held: Vec<u64> = self.accounts().iter().map(|account| account.live()).collect();
        let holders = held.iter().filter(|live| **live > 0).count() as u64;
        // One that has none yet wants to become a holder.
        let holders = holders + u64::from(tenant.live() == 0);
        lifecycle::is_below_share(tenant.live(), held.iter().sum(), holders)
    }

    /// Looks at the whole database.
    pub(crate) async fn check(&self) -> Result<CheckReport, StoreError> {
        self.store.check().await
    }

    /// Writes what is not written yet. Nothing may be used afterwards.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        let keeper = self
            .keeper
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(keeper) = keeper {
            drop(keeper.await);
        }
        self.store.close().await;
    }

    fn retention(&self) -> Retention {
        Retention {
            age: self.config.audit_age,
            rows: self.config.audit_rows,
        }
    }

    fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        // Every change of it is a single statement, so another thread's panic does not spoil it.
        self.directory
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn directory_mut(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

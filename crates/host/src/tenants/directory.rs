//! All tenants and keys, in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use subtle::ConstantTimeEq as _;

use super::account::Account;
use super::key::{digest, fingerprint};
use crate::auth::Tenant;
use crate::store::{KeyRow, TenantRow};

/// When a key was last used is known to this.
const USED_COARSE_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct Directory {
    accounts: BTreeMap<Tenant, Arc<Account>>,
    /// By digest. The table's own hash is keyed with randomness, and what it is computed from is already a digest of
    /// what was sent: how long a look-up takes tells nothing about which key was nearly right.
    keys: HashMap<[u8; 32], Arc<Key>>,
}

/// One key, as long as the daemon lives. Times are milliseconds since the Unix epoch; 0 is never.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: Arc<str>,
    pub(crate) account: Arc<Account>,
    pub(crate) name: String,
    pub(crate) tail: String,
    pub(crate) created_at_ms: u64,
    /// It is in the daemon's environment, not in the store.
    pub(crate) is_environment: bool,
    digest: [u8; 32],
    last_used_ms: AtomicU64,
    /// The same as the store knows it.
    written_ms: AtomicU64,
    expires_at_ms: AtomicU64,
    revoked_at_ms: AtomicU64,
}

impl Key {
    pub(crate) fn is_valid(&self, now_ms: u64) -> bool {
        self.revoked_at_ms().is_none() && self.expires_at_ms().is_none_or(|at| now_ms < at)
    }

    pub(super) fn use_at(&self, now_ms: u64) {
        // Most requests find it fresh enough and write nothing.
        let last = self.last_used_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last) >= USED_COARSE_MS {
            self.last_used_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    pub(crate) fn last_used_ms(&self) -> Option<u64> {
        some(&self.last_used_ms)
    }

    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        some(&self.expires_at_ms)
    }

    pub(crate) fn revoked_at_ms(&self) -> Option<u64> {
        some(&self.revoked_at_ms)
    }

    pub(super) fn expire_at(&self, at_ms: u64) {
        self.expires_at_ms.store(at_ms.max(1), Ordering::Relaxed);
    }

    pub(super) fn revoke_at(&self, at_ms: u64) {
        self.revoked_at_ms.store(at_ms.max(1), Ordering::Relaxed);
    }

    /// When it was last used, if the store should be told.
    pub(super) fn take_news(&self) -> Option<u64> {
        let last = self.last_used_ms.load(Ordering::Relaxed);
        let written = self.written_ms.swap(last, Ordering::Relaxed);
        (last > written && !self.is_environment).then_some(last)
    }
}

impl Directory {
    pub(super) fn put(&mut self, row: TenantRow) -> Arc<Account> {
        let account = Arc::new(Account::new(row));
        self.accounts.insert(account.tenant(), Arc::clone(&account));
        account
    }

    /// A key whose tenant is unknown opens nothing.
    pub(super) fn put_key(&mut self, row: KeyRow) {
        let Some(account) = self.account(Tenant(row.tenant_id)) else {
            return;
        };
        let key = Key {
            id: row.id.into(),
            account,
            name: row.name,
            tail: row.tail,
            created_at_ms: row.created_at_ms,
            is_environment: false,
            digest: row.digest,
            last_used_ms: AtomicU64::new(row.last_used_ms.unwrap_or(0)),
            written_ms: AtomicU64::new(row.last_used_ms.unwrap_or(0)),
            expires_at_ms: AtomicU64::new(row.expires_at_ms.unwrap_or(0)),
            revoked_at_ms: AtomicU64::new(row.revoked_at_ms.unwrap_or(0)),
        };
        self.keys.insert(row.digest, Arc::new(key));
    }

    pub(super) fn put_environment_key(&mut self, digest: [u8; 32], tenant: Tenant, now_ms: u64) {
        let Some(account) = self.account(tenant) else {
            return;
        };
        let key = Key {
            id: fingerprint(&digest).into(),
            account,
            name: "PODFLARE_API_KEYS".to_owned(),
            tail: String::new(),
            created_at_ms: now_ms,
            is_environment: true,
            digest,
            last_used_ms: AtomicU64::new(0),
            written_ms: AtomicU64::new(0),
            expires_at_ms: AtomicU64::new(0),
            revoked_at_ms: AtomicU64::new(0),
        };
        self.keys.insert(digest, Arc::new(key));
    }

    /// The key that was presented.
    pub(super) fn find(&self, presented: &[u8]) -> Option<Arc<Key>> {
        let digest = digest(presented);
        let key = self.keys.get(&digest)?;
        bool::from(key.digest.ct_eq(&digest)).then(|| Arc::clone(key))
    }

    pub(super) fn key(&self, id: &str) -> Option<&Arc<Key>> {
        self.keys.values().find(|key| *key.id == *id)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.values()
    }

    pub(super) fn account(&self, tenant: Tenant) -> Option<Arc<Account>> {
        self.accounts.get(&tenant).cloned()
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    pub(super) fn named(&self, name: &str) -> Option<Arc<Account>> {
        self.accounts().find(|account| account.name() == name).cloned()
    }

    /// Forgets a tenant and its keys.
    pub(super) fn remove(&mut self, tenant: Tenant) {
        self.accounts.remove(&tenant);
        self.keys.retain(|_, key| key.account.tenant() != tenant);
    }
}

fn some(time: &AtomicU64) -> Option<u64> {
    let time = time.load(Ordering::Relaxed);
    (time > 0).then_some(time)
}

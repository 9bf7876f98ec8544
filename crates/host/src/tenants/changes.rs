//! What an operator changes. Each is one transaction, with its row of the audit log, and is applied to memory by the
//! store's thread when it is on the disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pod_types::{IdError, Overrides, Tier};
use thiserror::Error;

use super::directory::Key;
use super::key::{Minted, mint};
use super::{Account, DEFAULT_TENANT, Tenants};
use crate::clock;
use crate::store::{AuditRow, KeyRow, NewTenant, StoreError, TenantRow};

/// More than any host needs; the directory is in memory.
const TENANTS_MAX: usize = 10_000;
const KEYS_MAX: usize = 100_000;

#[derive(Debug, Error)]
pub(crate) enum ChangeError {
    #[error("there is no tenant {name:?}")]
    NoTenant { name: String },
    #[error("there is no key {id:?}")]
    NoKey { id: String },
    #[error("there is a tenant {name:?} already")]
    Exists { name: String },
    #[error("the tenant {DEFAULT_TENANT:?} is needed for calls without a key")]
    Needed,
    #[error("this key and its tenant come from the daemon's PODFLARE_API_KEYS; change that instead")]
    Environment,
    #[error("the tenant has {count} sandboxes")]
    InUse { count: u64 },
    #[error("this key is not valid any more")]
    Spent,
    #[error("there are {max} already, which is the most there may be")]
    TooMany { max: usize },
    #[error("cannot make a key")]
    NoRandomness(#[source] IdError),
    #[error("the change was not made")]
    Store(#[from] StoreError),
}

/// What the audit log says of a change.
struct Change {
    action: &'static str,
    tenant: String,
    target: String,
    remote: Option<SocketAddr>,
    detail: Option<String>,
}

impl Tenants {
    /// A tenant by its name.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<Account>, ChangeError> {
        let found = self.directory().named(name);
        found.ok_or_else(|| ChangeError::NoTenant {
            name: name.to_owned(),
        })
    }

    pub(crate) async fn create_tenant(
        self: &Arc<Self>,
        name: String,
        tier: Option<Tier>,
        overrides: Overrides,
        wake: Option<bool>,
        remote: Option<SocketAddr>,
    ) -> Result<Arc<Account>, ChangeError> {
        if self.directory().accounts().count() >= TENANTS_MAX {
            return Err(ChangeError::TooMany { max: TENANTS_MAX });
        }
        let new = NewTenant {
            name: name.clone(),
            tier: tier.unwrap_or(self.config.default_tier),
            overrides,
            wake,
            created_at_ms: clock::now_ms(),
        };
        let change = Change {
            detail: Some(described(new.tier, &new.overrides, new.wake)),
            ..Change::of_tenant("tenant_created", &name, remote)
        };
        let this = Arc::clone(self);
        let created = self.store.change(
            move |db| {
                change.row().append(db)?;
                TenantRow::insert(db, new)
            },
            move |row| this.directory_mut().put(row),
        );
        created.await.map_err(|error| match error.is_conflict() {
            true => ChangeError::Exists { name },
            false => error.into(),
        })
    }

    pub(crate) async fn set_tenant(
        self: &Arc<Self>,
        name: &str,
        tier: Option<Tier>,
        overrides: Option<Overrides>,
        wake: Option<Option<bool>>,
        remote: Option<SocketAddr>,
    ) -> Result<Arc<Account>, ChangeError> {
        let account = self.named(name)?;
        let row = TenantRow {
            id: account.tenant().0,
            name: name.to_owned(),
            tier: tier.unwrap_or_else(|| account.tier()),
            overrides: overrides.unwrap_or_else(|| account.overrides()),
            wake: wake.unwrap_or_else(|| account.wake()),
            created_at_ms: account.created_at_ms(),
        };
        let change = Change {
            detail: Some(described(row.tier, &row.overrides, row.wake)),
            ..Change::of_tenant("tenant_changed", name, remote)
        };
        let changed = self.store.change(
            move |db| {
                change.row().append(db)?;
                row.update(db)?;
                Ok(row)
            },
            move |row| {
                account.set_terms(row.tier, row.overrides, row.wake);
                account
            },
        );
        Ok(changed.await?)
    }

    /// Removes a tenant that has no sandboxes, and all of its keys.
    pub(crate) async fn remove_tenant(
        self: &Arc<Self>,
        account: &Account,
        remote: Option<SocketAddr>,
    ) -> Result<(), ChangeError> {
        let (tenant, name) = (account.tenant(), account.name());
        if name == DEFAULT_TENANT {
            return Err(ChangeError::Needed);
        }
        let of_environment = |key: &Arc<Key>| key.is_environment && key.account.tenant() == tenant;
        if self.directory().keys().any(of_environment) {
            return Err(ChangeError::Environment);
        }
        if account.held() > 0 {
            return Err(ChangeError::InUse {
                count: account.held(),
            });
        }
        // What it used is written while its account is still known.
        self.flush().await?;
        let change = Change::of_tenant("tenant_removed", name, remote);
        let this = Arc::clone(self);
        let removed = self.store.change(
            move |db| {
                change.row().append(db)?;
                TenantRow::delete(db, tenant.0)
            },
            move |()| this.directory_mut().remove(tenant),
        );
        Ok(removed.await?)
    }

    /// A new key for a tenant. The key itself is known to the caller alone.
    pub(crate) async fn create_key(
        self: &Arc<Self>,
        tenant: &str,
        name: String,
        remote: Option<SocketAddr>,
    ) -> Result<(String, Arc<Key>), ChangeError> {
        let account = self.named(tenant)?;
        self.add_key(&account, name, None, remote).await
    }

    /// A new key in the place of another, which stays valid for a while.
    pub(crate) async fn rotate_key(
        self: &Arc<Self>,
        id: &str,
        grace: Duration,
        remote: Option<SocketAddr>,
    ) -> Result<(String, Arc<Key>), ChangeError> {
        let old = self.own_key(id)?;
        if !old.is_valid(clock::now_ms()) {
            return Err(ChangeError::Spent);
        }
        let (account, name) = (Arc::clone(&old.account), old.name.clone());
        self.add_key(&account, name, Some((old, grace)), remote).await
    }

    /// From the next request on the key opens nothing. Streams that it has opened go on.
    pub(crate) async fn revoke_key(
        self: &Arc<Self>,
        id: &str,
        remote: Option<SocketAddr>,
    ) -> Result<Arc<Key>, ChangeError> {
        let key = self.own_key(id)?;
        if key.revoked_at_ms().is_some() {
            return Ok(key);
        }
        let change = Change::of_key("key_revoked", key.account.name(), id, remote);
        let (now_ms, own) = (clock::now_ms(), id.to_owned());
        let revoked = self.store.change(
            move |db| {
                change.row().append(db)?;
                KeyRow::revoke(db, &own, now_ms)
            },
            move |()| {
                key.revoke_at(now_ms);
                key
            },
        );
        Ok(revoked.await?)
    }

    async fn add_key(
        self: &Arc<Self>,
        account: &Arc<Account>,
        name: String,
        replaced: Option<(Arc<Key>, Duration)>,
        remote: Option<SocketAddr>,
    ) -> Result<(String, Arc<Key>), ChangeError> {
        if self.directory().keys().count() >= KEYS_MAX {
            return Err(ChangeError::TooMany { max: KEYS_MAX });
        }
        let Minted {
            id,
            key,
            digest,
            tail,
        } = mint().map_err(ChangeError::NoRandomness)?;
        let now_ms = clock::now_ms();
        let row = KeyRow {
            id: id.clone(),
            tenant_id: account.tenant().0,
            name,
            digest,
            tail,
            created_at_ms: now_ms,
            last_used_ms: None,
            expires_at_ms: None,
            revoked_at_ms: None,
        };
        let change = Change {
            detail: replaced
                .as_ref()
                .map(|(old, grace)| format!("replaces {}, valid for {} s more", old.id, grace.as_secs())),
            ..Change::of_key(
                if replaced.is_some() {
                    "key_rotated"
                } else {
                    "key_created"
                },
                account.name(),
                &id,
                remote,
            )
        };
        let replaced = replaced.map(|(old, grace)| {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            // A rotation does not lengthen the life of a key that was rotated before.
            let ends = now_ms
                .saturating_add(grace_ms)
                .min(old.expires_at_ms().unwrap_or(u64::MAX));
            (old, ends)
        });
        let old_id = replaced.as_ref().map(|(old, ends)| (old.id.to_string(), *ends));
        let this = Arc::clone(self);
        let added = self.store.change(
            move |db| {
                change.row().append(db)?;
                if let Some((old, ends)) = old_id {
                    KeyRow::expire(db, &old, ends)?;
                }
                row.insert(db)?;
                Ok(row)
            },
            move |row| {
                let id = row.id.clone();
                let mut directory = this.directory_mut();
                directory.put_key(row);
                if let Some((old, ends)) = replaced {
                    old.expire_at(ends);
                }
                directory.key(&id).cloned()
            },
        );
        // Without one its tenant was removed meanwhile.
        let added = added.await?.ok_or_else(|| ChangeError::NoTenant {
            name: account.name().to_owned(),
        })?;
        Ok((key, added))
    }

    fn own_key(&self, id: &str) -> Result<Arc<Key>, ChangeError> {
        let key = self.directory().key(id).cloned();
        let key = key.ok_or_else(|| ChangeError::NoKey { id: id.to_owned() })?;
        if key.is_environment {
            return Err(ChangeError::Environment);
        }
        Ok(key)
    }
}

impl Change {
    fn of_tenant(action: &'static str, name: &str, remote: Option<SocketAddr>) -> Self {
        Self {
            action,
            tenant: name.to_owned(),
            target: name.to_owned(),
            remote,
            detail: None,
        }
    }

    fn of_key(action: &'static str, tenant: &str, id: &str, remote: Option<SocketAddr>) -> Self {
        Self {
            target: id.to_owned(),
            ..Self::of_tenant(action, tenant, remote)
        }
    }

    fn row(self) -> AuditRow {
        AuditRow {
            id: 0,
            at_ms: clock::now_ms(),
            actor: "operator",
            tenant: self.tenant,
            key_id: None,
            remote: self.remote.map(|address| address.to_string()),
            action: self.action.to_owned(),
            target: Some(self.target),
            result: "ok".to_owned(),
            detail: self.detail,
        }
    }
}

fn described(tier: Tier, overrides: &Overrides, wake: Option<bool>) -> String {
    let mut text = format!("tier {tier}");
    for (limit, value) in overrides {
        match value {
            Some(value) => text += &format!(", {limit} {value}"),
            None => text += &format!(", {limit} unlimited"),
        }
    }
    match wake {
        Some(true) => text += ", wake on",
        Some(false) => text += ", wake off",
        None => {}
    }
    text
}

//! Secrets that sandboxes use without having them: the network process puts them in the place of their placeholders.
//!
//! ```text
//!  PUT ─▶ sealed in the database ─▶ in memory ─▶ wires of sandboxes that may use it ─▶ network process
//!                                      ▲ opened with the host's key at the start
//! ```
//!
//! A value is in the database sealed, in this daemon's memory, and in that of the network process; in no log, record, space
//! or guest. Sandboxes, records and spaces name secrets: one that is revoked is nothing to them any more.

mod seal;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{SECRETS_MAX, SecretInfo, SecretRequest};
use net_proto::{Secret, SecretValue};
use pod_types::ErrorChain;
use thiserror::Error;

use crate::auth::Tenant;
use crate::clock;
use crate::store::{SecretRow, Store, StoreError};
use seal::{Key, KeyError};

/// Random bytes of a placeholder that is made up.
const PLACEHOLDER_BYTES: usize = 16;

/// All secrets of all tenants.
#[derive(Debug)]
pub(crate) struct Secrets {
    store: Store,
    key: Key,
    held: Mutex<BTreeMap<(i64, String), Held>>,
}

#[derive(Clone, Debug)]
struct Held {
    info: SecretInfo,
    secret: Secret,
}

#[derive(Debug, Error)]
pub(crate) enum SecretsOpenError {
    #[error("cannot use the key that secrets are sealed with")]
    Key(#[source] KeyError),
    #[error("cannot read the secrets")]
    Store(#[source] StoreError),
}

/// Why a secret is not changed.
#[derive(Debug, Error)]
pub(crate) enum SecretError {
    #[error("a tenant has at most {SECRETS_MAX} secrets")]
    TooMany,
    #[error("the secret cannot be sealed")]
    Seal(#[source] KeyError),
    #[error(transparent)]
    Store(StoreError),
}

impl Secrets {
    pub(crate) fn open(store: Store, key_file: &Path) -> Result<Arc<Self>, SecretsOpenError> {
        let key = Key::open(key_file).map_err(SecretsOpenError::Key)?;
        let rows = store
            .run_blocking(SecretRow::all)
            .map_err(SecretsOpenError::Store)?;
        let mut held = BTreeMap::new();
        for row in rows {
            match open(&key, &row) {
                Some(one) => drop(held.insert((row.tenant_id, row.name), one)),
                // Another key's, or damaged. It stays where it is, and can be set anew.
                None => tracing::error!(
                    tenant = row.tenant_id,
                    name = row.name,
                    "a secret cannot be opened"
                ),
            }
        }
        let held = Mutex::new(held);
        Ok(Arc::new(Self { store, key, held }))
    }

    /// A tenant's, by name.
    pub(crate) fn list(&self, tenant: Tenant) -> Vec<SecretInfo> {
        let held = self.held();
        let own = held.iter().filter(|((of, _), _)| *of == tenant.0);
        own.map(|(_, one)| one.info.clone()).collect()
    }

    /// The first of these that a tenant does not have.
    pub(crate) fn missing<'a>(&self, tenant: Tenant, names: &'a [String]) -> Option<&'a str> {
        let held = self.held();
        let unknown = |name: &&String| !held.contains_key(&(tenant.0, (*name).clone()));
        names.iter().find(unknown).map(String::as_str)
    }

    /// What the network process is to know for a sandbox that may use these. Those that are revoked are left out.
    pub(crate) fn of(&self, tenant: Tenant, names: &[String]) -> Arc<[Secret]> {
        let held = self.held();
        let one = |name: &String| Some(held.get(&(tenant.0, name.clone()))?.secret.clone());
        names.iter().filter_map(one).collect()
    }

    /// It is on stable storage when this returns; sandboxes have to be told.
    pub(crate) async fn put(
        self: &Arc<Self>,
        tenant: Tenant,
        name: &str,
        request: SecretRequest,
    ) -> Result<SecretInfo, SecretError> {
        let now_ms = clock::now_ms();
        let before = {
            let held = self.held();
            let own = held.keys().filter(|(of, _)| *of == tenant.0).count();
            let before = held.get(&(tenant.0, name.to_owned())).map(|one| one.info.clone());
            if before.is_none() && own >= SECRETS_MAX {
                return Err(SecretError::TooMany);
            }
            before
        };
        let kept = before.as_ref().map(|before| before.placeholder.clone());
        let placeholder = match request.placeholder.or(kept) {
            Some(placeholder) => placeholder,
            None => made_up().map_err(SecretError::Seal)?,
        };
        let info = SecretInfo {
            name: name.to_owned(),
            placeholder,
            hosts: request.hosts.iter().map(ToString::to_string).collect(),
            created_at_ms: before.map_or(now_ms, |before| before.created_at_ms),
            changed_at_ms: now_ms,
        };
        let sealed = self.key.seal(tenant.0, name, request.value.as_bytes());
        let row = SecretRow {
            tenant_id: tenant.0,
            name: info.name.clone(),
            placeholder: info.placeholder.clone(),
            hosts: info.hosts.clone(),
            sealed: sealed.map_err(SecretError::Seal)?,
            created_at_ms: info.created_at_ms,
            changed_at_ms: now_ms,
        };
        let one = Held {
            secret: Secret {
                placeholder: info.placeholder.clone(),
                value: SecretValue::new(request.value),
                hosts: request.hosts,
            },
            info: info.clone(),
        };
        let (this, place) = (Arc::clone(self), (tenant.0, name.to_owned()));
        let apply = move |()| drop(this.held().insert(place, one));
        let put = self.store.change(move |db| row.put(db), apply).await;
        put.map_err(SecretError::Store)?;
        Ok(info)
    }

    /// One that is not there counts as revoked.
    pub(crate) async fn delete(self: &Arc<Self>, tenant: Tenant, name: &str) -> Result<(), SecretError> {
        let (this, place) = (Arc::clone(self), (tenant.0, name.to_owned()));
        let apply = {
            let place = place.clone();
            move |()| drop(this.held().remove(&place))
        };
        let work = move |db: &crate::store::Transaction<'_>| SecretRow::delete(db, place.0, &place.1);
        let deleted = self.store.change(work, apply).await;
        deleted.map_err(SecretError::Store)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<(i64, String), Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(key: &Key, row: &SecretRow) -> Option<Held> {
    let opened = key.open_sealed(row.tenant_id, &row.name, &row.sealed);
    let value = opened
        .inspect_err(|error| tracing::debug!(error = %ErrorChain(error), "a sealed value is not opened"))
        .ok()?;
    let hosts: Result<Vec<_>, _> = row.hosts.iter().map(|host| host.parse()).collect();
    Some(Held {
        secret: Secret {
            placeholder: row.placeholder.clone(),
            value: SecretValue::new(String::from_utf8(value).ok()?),
            hosts: hosts.ok()?,
        },
        info: SecretInfo {
            name: row.name.clone(),
            placeholder: row.placeholder.clone(),
            hosts: row.hosts.clone(),
            created_at_ms: row.created_at_ms,
            changed_at_ms: row.changed_at_ms,
        },
    })
}

fn made_up() -> Result<String, KeyError> {
    let mut random = [0; PLACEHOLDER_BYTES];
    getrandom::fill(&mut random).map_err(|_| KeyError::NoRandomness)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("pf_secret_{digits}"))
}

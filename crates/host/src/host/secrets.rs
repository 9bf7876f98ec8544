//! Secrets of tenants, as far as their sandboxes use them.

use std::sync::Arc;

use api::{SecretInfo, SecretRequest};
use futures_util::future::try_join_all;
use thiserror::Error;

use super::Host;
use crate::auth::Tenant;
use crate::sandbox::{NotInForce, Sandbox};
use crate::secrets::SecretError;

/// Why a change of a secret does not hold.
#[derive(Debug, Error)]
pub(crate) enum ChangeSecretError {
    #[error(transparent)]
    Refused(SecretError),
    #[error(
        "this host has no authority to sign for the hosts of secrets; `podflare up` makes one, and podflare-hostd is given \
         one with --authority"
    )]
    NoAuthority,
    /// It is changed, and it is not known whether sandboxes that run have it.
    #[error(
        "the host's network does not say whether the change is in force; it is as soon as the network answers"
    )]
    NotInForce,
}

impl Host {
    /// Lets a sandbox use what it was made with and is not revoked. To be called when it is registered: a secret that is
    /// revoked meanwhile is then taken from it by one of the two.
    pub(super) fn give_secrets(&self, sandbox: &Sandbox) {
        let names = &sandbox.spec.secrets;
        if !names.is_empty() && self.takes_secrets() {
            sandbox.wire.set_secrets(self.secrets.of(sandbox.tenant, names));
        }
    }

    /// Sandboxes that run have the new value when this returns.
    pub(crate) async fn put_secret(
        &self,
        tenant: Tenant,
        name: &str,
        request: SecretRequest,
    ) -> Result<SecretInfo, ChangeSecretError> {
        if !self.takes_secrets() {
            return Err(ChangeSecretError::NoAuthority);
        }
        let put = self.secrets.put(tenant, name, request).await;
        let info = put.map_err(ChangeSecretError::Refused)?;
        self.tell_of_secret(tenant, name).await?;
        Ok(info)
    }

    /// No sandbox uses it any more when this returns.
    pub(crate) async fn revoke_secret(&self, tenant: Tenant, name: &str) -> Result<(), ChangeSecretError> {
        let deleted = self.secrets.delete(tenant, name).await;
        deleted.map_err(ChangeSecretError::Refused)?;
        self.tell_of_secret(tenant, name).await
    }

    fn takes_secrets(&self) -> bool {
        let network = self.config.network.as_ref();
        network.is_none_or(|network| network.takes_secrets())
    }

    async fn tell_of_secret(&self, tenant: Tenant, name: &str) -> Result<(), ChangeSecretError> {
        let uses = |sandbox: &&Arc<Sandbox>| {
            sandbox.tenant == tenant && sandbox.spec.secrets.iter().any(|used| used == name)
        };
        let using: Vec<_> = self.registry().all().filter(uses).cloned().collect();
        for sandbox in &using {
            self.give_secrets(sandbox);
        }
        let settled = using.iter().map(|sandbox| sandbox.network_settles());
        let settled = try_join_all(settled).await;
        settled
            .map(drop)
            .map_err(|NotInForce| ChangeSecretError::NotInForce)
    }
}

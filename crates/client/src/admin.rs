//! Routes of the operator; the endpoint's key is the operator's token. And usage, which tenants may ask for, too.

use api::{
    AuditPage, AuditQuery, Capacity, KeyInfo, KeyList, NewKey, NewKeyRequest, NewTenantRequest,
    RotateRequest, SetTenantRequest, StoreReport, TenantInfo, TenantList, UsageList, UsageReport,
    percent_encoded,
};

use crate::client::{Client, NOTHING};
use crate::error::ClientError;
use crate::transport::Call;

impl Client {
    /// All tenants, oldest first.
    ///
    /// # Errors
    /// [`ClientError`], as for all of these.
    pub fn tenants(&self) -> Result<Vec<TenantInfo>, ClientError> {
        let call = Call::new("GET", "/v1/admin/tenants", "listing tenants");
        let list: TenantList = self.transport.json(call, NOTHING)?;
        Ok(list.tenants)
    }

    /// # Errors
    /// [`ClientError`].
    pub fn tenant(&self, name: &str) -> Result<TenantInfo, ClientError> {
        let path = format!("/v1/admin/tenants/{}", percent_encoded(name.as_bytes()));
        self.transport
            .json(Call::new("GET", &path, "looking at a tenant"), NOTHING)
    }

    /// # Errors
    /// [`ClientError`].
    pub fn create_tenant(&self, request: &NewTenantRequest) -> Result<TenantInfo, ClientError> {
        let call = Call::new("POST", "/v1/admin/tenants", "creating a tenant");
        self.transport.json(call, Some(request))
    }

    /// # Errors
    /// [`ClientError`].
    pub fn set_tenant(&self, name: &str, request: &SetTenantRequest) -> Result<TenantInfo, ClientError> {
        let path = format!("/v1/admin/tenants/{}", percent_encoded(name.as_bytes()));
        self.transport
            .json(Call::new("PATCH", &path, "changing a tenant"), Some(request))
    }

    /// Removes a tenant and its keys; by force, its sandboxes as well.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn remove_tenant(&self, name: &str, force: bool) -> Result<(), ClientError> {
        let path = format!(
            "/v1/admin/tenants/{}?force={force}",
            percent_encoded(name.as_bytes())
        );
        self.transport
            .text(Call::new("DELETE", &path, "removing a tenant"), NOTHING)
            .map(drop)
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn keys(&self) -> Result<Vec<KeyInfo>, ClientError> {
        let call = Call::new("GET", "/v1/admin/keys", "listing keys");
        let list: KeyList = self.transport.json(call, NOTHING)?;
        Ok(list.keys)
    }

    /// # Errors
    /// [`ClientError`].
    pub fn create_key(&self, request: &NewKeyRequest) -> Result<NewKey, ClientError> {
        let call = Call::new("POST", "/v1/admin/keys", "creating a key");
        self.transport.json(call, Some(request))
    }

    /// A new key for an old one, which stays valid for so long.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn rotate_key(&self, id: &str, grace_seconds: u64) -> Result<NewKey, ClientError> {
        let path = format!("/v1/admin/keys/{}/rotate", percent_encoded(id.as_bytes()));
        let call = Call::new("POST", &path, "rotating a key");
        self.transport.json(call, Some(&RotateRequest { grace_seconds }))
    }

    /// # Errors
    /// [`ClientError`].
    pub fn revoke_key(&self, id: &str) -> Result<KeyInfo, ClientError> {
        let path = format!("/v1/admin/keys/{}", percent_encoded(id.as_bytes()));
        self.transport
            .json(Call::new("DELETE", &path, "revoking a key"), NOTHING)
    }

    /// What all tenants have used in the last days.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn usage_of_all(&self, days: u64) -> Result<UsageList, ClientError> {
        let path = format!("/v1/admin/usage?days={days}");
        self.transport
            .json(Call::new("GET", &path, "asking for usage"), NOTHING)
    }

    /// What this key's tenant has used in the last days.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn usage(&self, days: u64) -> Result<UsageReport, ClientError> {
        let path = format!("/v1/usage?days={days}");
        self.transport
            .json(Call::new("GET", &path, "asking for usage"), NOTHING)
    }

    /// A page of the audit log, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        let path = format!("/v1/admin/audit?{}", query.to_query());
        self.transport
            .json(Call::new("GET", &path, "reading the audit log"), NOTHING)
    }

    /// A look at the host's whole database.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn check_store(&self) -> Result<StoreReport, ClientError> {
        let call = Call::new("GET", "/v1/admin/store", "checking the database");
        self.transport.json(call, NOTHING)
    }

    /// What the host has left, with the sandboxes of all tenants.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn capacity_of_all(&self) -> Result<Capacity, ClientError> {
        let call = Call::new("GET", "/v1/admin/capacity", "asking for its capacity");
        self.transport.json(call, NOTHING)
    }
}

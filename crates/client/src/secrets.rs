//! Routes of secrets.

use api::{SecretInfo, SecretList, SecretRequest, percent_encoded};

use crate::client::{Client, NOTHING};
use crate::error::ClientError;
use crate::transport::Call;

impl Client {
    /// This tenant's secrets, by name, without their values.
    ///
    /// # Errors
    /// [`ClientError`], as for all of these.
    pub fn secrets(&self) -> Result<SecretList, ClientError> {
        let call = Call::new("GET", "/v1/secrets", "listing secrets");
        self.transport.json(call, NOTHING)
    }

    /// # Errors
    /// [`ClientError`].
    pub fn put_secret(&self, name: &str, request: &SecretRequest) -> Result<SecretInfo, ClientError> {
        let path = path(name);
        self.transport
            .json(Call::new("PUT", &path, "setting a secret"), Some(request))
    }

    /// # Errors
    /// [`ClientError`].
    pub fn remove_secret(&self, name: &str) -> Result<(), ClientError> {
        let path = path(name);
        let call = Call::new("DELETE", &path, "revoking a secret");
        self.transport.text(call, NOTHING).map(drop)
    }
}

fn path(name: &str) -> String {
    format!("/v1/secrets/{}", percent_encoded(name.as_bytes()))
}

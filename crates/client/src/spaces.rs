//! Freezing sandboxes, and spaces.

use api::{CreatedSandbox, FreezeRequest, ResumeRequest, SpaceInfo, SpaceList};
use pod_types::{SandboxId, SpaceId};

use crate::client::{Client, NOTHING};
use crate::error::ClientError;
use crate::transport::Call;

impl Client {
    /// Freezes a sandbox. Returns when its space is on stable storage.
    ///
    /// # Errors
    /// [`ClientError`]; the sandbox goes on then.
    pub fn freeze(&self, id: SandboxId, how: FreezeRequest) -> Result<SpaceInfo, ClientError> {
        let path = format!("/v1/sandboxes/{id}/freeze");
        let call = Call::new("POST", &path, "freezing a sandbox").with_a_boot();
        self.transport.json(call, Some(&how))
    }

    /// All spaces this key may see, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn spaces(&self) -> Result<Vec<SpaceInfo>, ClientError> {
        let call = Call::new("GET", "/v1/spaces", "listing spaces");
        let list: SpaceList = self.transport.json(call, NOTHING)?;
        Ok(list.spaces)
    }

    /// One space.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::is_not_found`] when there is none of that name.
    pub fn space(&self, id: SpaceId) -> Result<SpaceInfo, ClientError> {
        let path = format!("/v1/spaces/{id}");
        self.transport
            .json(Call::new("GET", &path, "looking at a space"), NOTHING)
    }

    /// Goes on with what was frozen, in a sandbox with a new id.
    ///
    /// # Errors
    /// [`ClientError`]; the space is kept then.
    pub fn resume(&self, id: SpaceId, request: &ResumeRequest) -> Result<CreatedSandbox, ClientError> {
        let path = format!("/v1/spaces/{id}/resume");
        let call = Call::new("POST", &path, "resuming a space").with_a_boot();
        self.transport.json(call, Some(request))
    }

    /// Removes a space. One that is gone already is no error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn delete_space(&self, id: SpaceId) -> Result<(), ClientError> {
        let path = format!("/v1/spaces/{id}");
        let call = Call::new("DELETE", &path, "removing a space");
        self.transport.text(call, NOTHING).map(drop)
    }
}

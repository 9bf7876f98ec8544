//! Freezing sandboxes, and spaces.

use std::io::Read;

use api::{CreatedSandbox, FreezeRequest, ResumeRequest, SPACE_MEDIA_TYPE, SpaceInfo, SpaceList};
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

    /// A space as one file. A reader that ends without an error has given all of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn export_space(&self, id: SpaceId) -> Result<impl Read + Send + use<>, ClientError> {
        let path = format!("/v1/spaces/{id}/export");
        let call = Call::new("GET", &path, "exporting a space").with_a_boot();
        Ok(self.transport().download(call)?.into_body().into_reader())
    }

    /// Makes a space of such a file. `length` is in bytes, where it is known.
    ///
    /// # Errors
    /// [`ClientError`]; nothing has changed then.
    pub fn import_space(&self, length: Option<u64>, file: &mut dyn Read) -> Result<SpaceInfo, ClientError> {
        let call = Call::new("POST", "/v1/spaces/import", "importing a space");
        let text = self.transport().upload(call, SPACE_MEDIA_TYPE, length, file)?;
        serde_json::from_str(&text).map_err(|error| self.transport().not_podflare(call, error))
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

//! One method for each route of the API.

use api::{
    Capacity, ChangeRequest, Checkpoint, CheckpointList, CheckpointRequest, CreateRequest, CreatedSandbox,
    Diff, EgressLogPage, ExecRequest, ForkRequest, Forked, RollbackRequest, RolledBack, SandboxInfo,
    SandboxList,
};
use pod_types::SandboxId;

use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::exec::ExecStream;
use crate::transport::{Call, Transport};

/// A host, seen from outside. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) transport: Transport,
}

/// No body in a request.
pub(crate) const NOTHING: Option<&()> = None;

impl Client {
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            transport: Transport::new(endpoint),
        }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Base URL of the host.
    #[must_use]
    pub fn url(&self) -> &str {
        self.transport.url()
    }

    /// Whether a host answers there; needs no key.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when none does, [`ClientError::NotPodflare`] when something else does.
    pub fn healthz(&self) -> Result<(), ClientError> {
        let call = Call::new("GET", "/v1/healthz", "asking for its health");
        match self.transport.text(call, NOTHING)?.trim() {
            "ok" => Ok(()),
            other => {
                let start: String = other.chars().take(80).collect();
                Err(self
                    .transport
                    .not_podflare(call, format!("its health is `{start}` instead of `ok`")))
            }
        }
    }

    /// Makes a sandbox; returns when its VM runs and answers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn create(&self, request: &CreateRequest) -> Result<CreatedSandbox, ClientError> {
        let call = Call::new("POST", "/v1/sandboxes", "creating a sandbox").with_a_boot();
        self.transport.json(call, Some(request))
    }

    /// All sandboxes this key may see, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn list(&self) -> Result<Vec<SandboxInfo>, ClientError> {
        let call = Call::new("GET", "/v1/sandboxes", "listing sandboxes");
        let list: SandboxList = self.transport.json(call, NOTHING)?;
        Ok(list.sandboxes)
    }

    /// The same, with what each uses of its host.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn list_with_usage(&self) -> Result<Vec<SandboxInfo>, ClientError> {
        let call = Call::new("GET", "/v1/sandboxes?usage=true", "watching sandboxes");
        let list: SandboxList = self.transport.json(call, NOTHING)?;
        Ok(list.sandboxes)
    }

    /// One sandbox, with the counters of its VM.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::is_not_found`] when there is none of that name.
    pub fn get(&self, id: SandboxId) -> Result<SandboxInfo, ClientError> {
        let path = format!("/v1/sandboxes/{id}");
        self.transport
            .json(Call::new("GET", &path, "looking at a sandbox"), NOTHING)
    }

    /// Gives a sandbox other terms, and shows what it has then.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn change(&self, id: SandboxId, change: &ChangeRequest) -> Result<SandboxInfo, ClientError> {
        let path = format!("/v1/sandboxes/{id}");
        let call = Call::new("PATCH", &path, "changing a sandbox");
        self.transport.json(call, Some(change))
    }

    /// What a sandbox reached and was refused, oldest first: at most so many after the one of this number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn egress_log(&self, id: SandboxId, after: u64, limit: u64) -> Result<EgressLogPage, ClientError> {
        let path = format!("/v1/sandboxes/{id}/egress/log?after={after}&limit={limit}");
        let call = Call::new("GET", &path, "reading what a sandbox reached");
        self.transport.json(call, NOTHING)
    }

    /// Destroys a sandbox. One that is gone already is no error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn delete(&self, id: SandboxId) -> Result<(), ClientError> {
        let path = format!("/v1/sandboxes/{id}");
        let call = Call::new("DELETE", &path, "removing a sandbox");
        self.transport.text(call, NOTHING).map(drop)
    }

    /// Makes `n` copies of a running sandbox, memory and disk included, 1 to 32.
    ///
    /// # Errors
    /// [`ClientError`]; the sandbox itself is unharmed.
    pub fn fork(&self, id: SandboxId, n: u8) -> Result<Vec<SandboxId>, ClientError> {
        let path = format!("/v1/sandboxes/{id}/fork");
        let call = Call::new("POST", &path, "forking a sandbox").with_a_boot();
        let forked: Forked = self.transport.json(call, Some(&ForkRequest { n }))?;
        Ok(forked.children)
    }

    /// Puts the winner in the place of `id`; the winner's own id is unknown from then on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn merge_into(&self, id: SandboxId, winner: SandboxId) -> Result<(), ClientError> {
        let path = format!("/v1/sandboxes/{id}/merge_into/{winner}");
        let call = Call::new("POST", &path, "merging a sandbox");
        self.transport.text(call, NOTHING).map(drop)
    }

    /// Keeps what a sandbox is now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn checkpoint(&self, id: SandboxId, name: Option<String>) -> Result<Checkpoint, ClientError> {
        let path = format!("/v1/sandboxes/{id}/checkpoints");
        let call = Call::new("POST", &path, "making a checkpoint").with_a_boot();
        self.transport.json(call, Some(&CheckpointRequest { name }))
    }

    /// What a sandbox can be rolled back to, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn checkpoints(&self, id: SandboxId) -> Result<Vec<Checkpoint>, ClientError> {
        let path = format!("/v1/sandboxes/{id}/checkpoints");
        let call = Call::new("GET", &path, "listing checkpoints");
        let list: CheckpointList = self.transport.json(call, NOTHING)?;
        Ok(list.checkpoints)
    }

    /// Gives up a checkpoint, by name or id. One that is gone already is no error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn delete_checkpoint(&self, id: SandboxId, checkpoint: &str) -> Result<(), ClientError> {
        let checkpoint = api::percent_encoded(checkpoint.as_bytes());
        let path = format!("/v1/sandboxes/{id}/checkpoints/{checkpoint}");
        let call = Call::new("DELETE", &path, "giving up a checkpoint");
        self.transport.text(call, NOTHING).map(drop)
    }

    /// Puts a sandbox back to where it was, by name or id of a checkpoint; to the latest without one.
    ///
    /// # Errors
    /// [`ClientError`]; nothing has changed then.
    pub fn roll_back(&self, id: SandboxId, checkpoint: Option<String>) -> Result<RolledBack, ClientError> {
        let path = format!("/v1/sandboxes/{id}/rollback");
        let call = Call::new("POST", &path, "rolling back a sandbox").with_a_boot();
        self.transport.json(call, Some(&RollbackRequest { checkpoint }))
    }

    /// What is different in `other`: everywhere, or at and below the paths, which are absolute.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn diff(&self, id: SandboxId, other: SandboxId, paths: &[String]) -> Result<Diff, ClientError> {
        let query: Vec<String> = paths
            .iter()
            .map(|path| format!("paths={}", api::percent_encoded(path.as_bytes())))
            .collect();
        let path = format!("/v1/sandboxes/{id}/diff/{other}?{}", query.join("&"));
        let call = Call::new("GET", &path, "comparing sandboxes").with_a_boot();
        self.transport.json(call, NOTHING)
    }

    /// Starts a run and returns its output as a stream. Dropping the stream cancels the run.
    ///
    /// # Errors
    /// [`ClientError`] when the run could not be started.
    pub fn exec(&self, id: SandboxId, request: &ExecRequest) -> Result<ExecStream, ClientError> {
        let path = format!("/v1/sandboxes/{id}/exec");
        let call = Call::new("POST", &path, "starting a run");
        let body = self.transport.stream(call, Some(request))?;
        let call = Call::new("POST", "", "running code");
        Ok(ExecStream::new(self.transport.clone(), call, Box::new(body)))
    }

    /// What the kernel and the agent of a sandbox have written to its serial console, the newest part of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn console(&self, id: SandboxId) -> Result<String, ClientError> {
        let path = format!("/v1/sandboxes/{id}/console");
        self.transport
            .text(Call::new("GET", &path, "reading a console"), NOTHING)
    }

    /// What the host has left.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn capacity(&self) -> Result<Capacity, ClientError> {
        let call = Call::new("GET", "/v1/capacity", "asking for its capacity");
        self.transport.json(call, NOTHING)
    }
}

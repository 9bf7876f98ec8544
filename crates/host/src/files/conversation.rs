//! One file request and what the agent says to it.

use std::sync::Arc;
use std::time::Duration;

use agent_proto::files::{FileRefusal, FileReply, FileRequest};
use agent_proto::{Reply, Request};
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::agent::{self, AgentConnection, AgentError};
use crate::sandbox::Sandbox;

const CONNECT_BOUND: Duration = Duration::from_secs(10);

/// How long an agent may take for a step that takes no time by itself. Guests are emulated, and busy.
pub(super) const STEP_BOUND: Duration = Duration::from_secs(60);

/// The same for work without a measure: syncing a large file, removing or listing a large directory.
const WORK_BOUND: Duration = Duration::from_secs(300);

#[derive(Debug, Error)]
pub(crate) enum FilesError {
    #[error("too many transfers and watches are in progress in this sandbox")]
    TooMany,
    #[error("the sandbox cannot be reached")]
    Connect(#[source] AgentError),
    #[error("the connection to the sandbox was lost")]
    Lost(#[source] AgentError),
    #[error("the sandbox did not answer for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{}", .0.message)]
    Refused(FileRefusal),
    #[error("the sandbox's agent said something else than was asked")]
    Unexpected,
    /// What the guest says about its files cannot be.
    #[error("the sandbox's agent told of {0}")]
    Absurd(&'static str),
}

/// A request in progress. Dropping it cancels the request.
pub(crate) struct Conversation {
    pub(super) connection: AgentConnection,
    pub(super) sandbox: Arc<Sandbox>,
    _permit: OwnedSemaphorePermit,
}

impl Conversation {
    /// Sends a request.
    pub(crate) async fn begin(sandbox: &Arc<Sandbox>, request: FileRequest) -> Result<Self, FilesError> {
        let permit = Arc::clone(&sandbox.transfers)
            .try_acquire_owned()
            .map_err(|_| FilesError::TooMany)?;
        let request = Request::File(request);
        let connection = match sandbox.warm_connection() {
            // One that has lain idle may have been closed by the agent, which has not got the request then.
            Some(mut warm) => match warm.send(&request).await {
                Ok(()) => warm,
                Err(_) => Self::call(sandbox, &request).await?,
            },
            None => Self::call(sandbox, &request).await?,
        };
        Ok(Self {
            connection,
            sandbox: Arc::clone(sandbox),
            _permit: permit,
        })
    }

    async fn call(sandbox: &Sandbox, request: &Request) -> Result<AgentConnection, FilesError> {
        let socket = sandbox.files.vsock_socket();
        let connected = timeout(CONNECT_BOUND, agent::connect(&socket)).await;
        let mut connection = connected
            .unwrap_or(Err(AgentError::Silent))
            .map_err(FilesError::Connect)?;
        connection.send(request).await.map_err(FilesError::Lost)?;
        Ok(connection)
    }

    /// The next reply; a refusal is an error.
    pub(crate) async fn reply(&mut self) -> Result<Reply, FilesError> {
        self.reply_within(STEP_BOUND).await
    }

    /// The same, after work that may take long.
    pub(crate) async fn outcome(&mut self) -> Result<Reply, FilesError> {
        self.reply_within(WORK_BOUND).await
    }

    async fn reply_within(&mut self, bound: Duration) -> Result<Reply, FilesError> {
        let reply = timeout(bound, self.connection.reply()).await;
        understand(reply.map_err(|_| FilesError::Silent(bound))?)
    }

    /// The connection is free for the next request, if the agent has said no more than it should.
    pub(crate) fn release(self) {
        if self.connection.is_clean() {
            self.sandbox.keep_connection(self.connection);
        }
    }
}

/// A refusal is an error.
pub(super) fn understand(reply: Result<Reply, AgentError>) -> Result<Reply, FilesError> {
    match reply.map_err(FilesError::Lost)? {
        Reply::File(FileReply::Refused(refusal)) => Err(FilesError::Refused(refusal)),
        reply => Ok(reply),
    }
}

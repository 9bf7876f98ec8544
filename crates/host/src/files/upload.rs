//! Content on its way from a client to a guest.

use std::sync::Arc;

use agent_proto::Reply;
use agent_proto::files::{FILE_PIECE_MAX, FileReply, FileRequest, FileStat, piece_header};
use thiserror::Error;
use tokio::time::timeout;

use super::conversation::{Conversation, FilesError, STEP_BOUND, understand};
use crate::agent::AgentError;
use crate::sandbox::Sandbox;

#[derive(Debug, Error)]
pub(crate) enum UploadError<E> {
    #[error("the client's body broke")]
    Client(E),
    #[error(transparent)]
    Guest(FilesError),
}

/// What came of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    File(FileStat),
    Archive { entries: u64, bytes: u64 },
}

pub(crate) struct Upload {
    conversation: Conversation,
}

impl Upload {
    /// Asks whether it can be; nothing has changed when the answer is yes.
    pub(crate) async fn begin(sandbox: &Arc<Sandbox>, request: FileRequest) -> Result<Self, FilesError> {
        let mut conversation = Conversation::begin(sandbox, request).await?;
        match conversation.reply().await? {
            Reply::Done => Ok(Self { conversation }),
            _ => Err(FilesError::Unexpected),
        }
    }

    /// Waits for more from the client, or for the guest to say that it takes no more.
    pub(crate) async fn next<T, E>(
        &mut self,
        more: impl Future<Output = Result<T, E>>,
    ) -> Result<T, UploadError<E>> {
        tokio::select! {
            biased;
            more = more => more.map_err(UploadError::Client),
            reply = self.conversation.connection.reply() => Err(UploadError::Guest(objection(reply))),
        }
    }

    /// Passes content on; returns when the guest's socket has taken it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        for piece in bytes.chunks(FILE_PIECE_MAX) {
            let header =
                piece_header(piece.len()).map_err(|error| FilesError::Lost(AgentError::Encode(error)))?;
            let sending = self.conversation.connection.send_or_hear(&header, piece);
            match timeout(STEP_BOUND, sending).await {
                Err(_) => return Err(FilesError::Silent(STEP_BOUND)),
                Ok(Ok(None)) => self.conversation.sandbox.received(piece.len()),
                Ok(Ok(Some(reply))) => return Err(objection(Ok(reply))),
                Ok(Err(error)) => return Err(FilesError::Lost(error)),
            }
        }
        Ok(())
    }

    /// All has been sent: the content takes its place.
    pub(crate) async fn commit(mut self) -> Result<Uploaded, FilesError> {
        let connection = &mut self.conversation.connection;
        let sending = connection.send(&agent_proto::Request::File(FileRequest::Commit));
        timeout(STEP_BOUND, sending)
            .await
            .map_err(|_| FilesError::Silent(STEP_BOUND))?
            .map_err(FilesError::Lost)?;
        let uploaded = match self.conversation.outcome().await? {
            Reply::File(FileReply::Stat(stat)) => Uploaded::File(stat),
            Reply::File(FileReply::Unpacked { entries, bytes }) => Uploaded::Archive { entries, bytes },
            _ => return Err(FilesError::Unexpected),
        };
        self.conversation.release();
        Ok(uploaded)
    }
}

/// What a guest says that has not been asked.
fn objection(reply: Result<Reply, AgentError>) -> FilesError {
    understand(reply).err().unwrap_or(FilesError::Unexpected)
}

//! What happens to a guest's files, as lines for a client.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use agent_proto::Reply;
use agent_proto::files::{Change, ChangeKind, FileReply, FileRequest};
use api::{FileChange, FileChangeKind};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use pod_types::ErrorChain;
use tokio::time::{Sleep, sleep};

use super::conversation::{Conversation, FilesError, understand};
use super::info::text_and_bytes;
use crate::clock;
use crate::sandbox::Sandbox;

/// Yields one line per change, and a bare newline when nothing has happened for a while. The first line says that it
/// watches. It ends when what is watched is gone.
pub(crate) struct Watching {
    conversation: Conversation,
    first: Option<Bytes>,
    heartbeat: Duration,
    alarm: Pin<Box<Sleep>>,
    ended: bool,
}

impl Watching {
    pub(crate) async fn begin(
        sandbox: &Arc<Sandbox>,
        path: Vec<u8>,
        recursive: bool,
        heartbeat: Duration,
    ) -> Result<Self, FilesError> {
        let (shown, path_b64) = text_and_bytes(&path);
        let mut conversation = Conversation::begin(sandbox, FileRequest::Watch { path, recursive }).await?;
        if conversation.outcome().await? != Reply::Done {
            return Err(FilesError::Unexpected);
        }
        // From here on only what it tells is a use.
        conversation.in_use = None;
        let ready = FileChange {
            kind: FileChangeKind::Ready,
            path: shown,
            path_b64,
            to: None,
            to_b64: None,
            directory: true,
            ts: clock::now_ms(),
        };
        Ok(Self {
            conversation,
            first: Some(line(&ready).into()),
            heartbeat,
            alarm: Box::pin(sleep(heartbeat)),
            ended: false,
        })
    }

    fn hear(&mut self, reply: Reply) -> Result<Option<Bytes>, FilesError> {
        self.conversation.sandbox.touch();
        match reply {
            Reply::File(FileReply::Changes(changes)) => Ok(Some(
                changes.iter().flat_map(|change| line(&told(change))).collect(),
            )),
            Reply::Done => {
                self.ended = true;
                Ok(None)
            }
            _ => Err(FilesError::Unexpected),
        }
    }
}

impl Body for Watching {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let next = if let Poll::Ready(reply) = this.conversation.connection.poll_reply(cx) {
            understand(reply).and_then(|reply| this.hear(reply))
        } else if this.alarm.as_mut().poll(cx).is_ready() {
            Ok(Some(Bytes::from_static(b"\n")))
        } else {
            return Poll::Pending;
        };
        let until = tokio::time::Instant::now() + this.heartbeat;
        this.alarm.as_mut().reset(until);
        Poll::Ready(match next {
            Ok(bytes) => bytes.map(|bytes| Ok(Frame::data(bytes))),
            Err(error) => {
                this.ended = true;
                Some(Err(io::Error::other(ErrorChain(&error).to_string())))
            }
        })
    }
}

fn told(change: &Change) -> FileChange {
    let (path, path_b64) = text_and_bytes(&change.path);
    let (to, to_b64) = change.to.as_deref().map(text_and_bytes).unzip();
    FileChange {
        kind: match change.kind {
            ChangeKind::Created => FileChangeKind::Created,
            ChangeKind::Modified => FileChangeKind::Modified,
            ChangeKind::Deleted => FileChangeKind::Deleted,
            ChangeKind::Moved => FileChangeKind::Moved,
            ChangeKind::Overflow => FileChangeKind::Overflow,
        },
        path,
        path_b64,
        to,
        to_b64: to_b64.flatten(),
        directory: change.directory,
        ts: clock::now_ms(),
    }
}

fn line(change: &FileChange) -> Vec<u8> {
    // A struct of strings and numbers is always JSON.
    let mut line = serde_json::to_vec(change).unwrap_or_default();
    line.push(b'\n');
    line
}

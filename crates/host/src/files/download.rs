//! Content on its way from a guest to a client.
//!
//! It is polled by whoever sends the response: while the client takes nothing, nothing is read from the guest, whose file
//! is not read on then. The last piece is held back until the agent has said that it was all. So a response that ends as
//! announced is whole, and anything else breaks the connection off.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use agent_proto::Reply;
use agent_proto::files::{FileReply, FileRequest, Opened};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use pod_types::ErrorChain;
use tokio::time::{Sleep, sleep};

use super::conversation::{Conversation, FilesError, STEP_BOUND, understand};

use std::sync::Arc;

use crate::sandbox::Sandbox;

pub(crate) struct Download {
    /// `None` once it has ended.
    conversation: Option<Conversation>,
    /// Bytes that are still to come from the guest; `None` where only the end tells.
    left: Option<u64>,
    /// Bytes that are still to be handed on, of the same.
    owed: Option<u64>,
    /// Came, and not handed on yet.
    held: Option<Bytes>,
    ended: bool,
    /// Runs while the guest is waited for.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Download {
    /// Asks for content, and waits for the first of it, so that what cannot be read at all can still be told with a
    /// status.
    pub(crate) async fn begin(
        sandbox: &Arc<Sandbox>,
        request: FileRequest,
    ) -> Result<(Opened, Self), FilesError> {
        let mut conversation = Conversation::begin(sandbox, request).await?;
        let Reply::File(FileReply::Opened(opened)) = conversation.reply().await? else {
            return Err(FilesError::Unexpected);
        };
        let mut download = Self {
            conversation: Some(conversation),
            left: opened.length,
            owed: opened.length,
            held: None,
            ended: false,
            patience: None,
        };
        std::future::poll_fn(|cx| download.poll_held(cx)).await?;
        Ok((opened, download))
    }

    /// Ready when something is held that can be handed on, or all has come.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FilesError>> {
        while !self.ended && (self.held.is_none() || self.left == Some(0)) {
            let Some(conversation) = &mut self.conversation else {
                return Poll::Ready(Err(FilesError::Unexpected));
            };
            let Poll::Ready(reply) = conversation.connection.poll_reply(cx) else {
                let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(STEP_BOUND)));
                ready!(patience.as_mut().poll(cx));
                return Poll::Ready(Err(FilesError::Silent(STEP_BOUND)));
            };
            self.patience = None;
            match understand(reply)? {
                Reply::File(FileReply::Data(bytes)) => {
                    if let Some(left) = &mut self.left {
                        *left = left
                            .checked_sub(bytes.len() as u64)
                            .ok_or(FilesError::Absurd("more content than it announced"))?;
                    }
                    if self.held.is_some() && !bytes.is_empty() {
                        return Poll::Ready(Err(FilesError::Absurd("more content than it announced")));
                    }
                    conversation.sandbox.sent(bytes.len());
                    if !bytes.is_empty() {
                        self.held = Some(bytes.into());
                    }
                }
                Reply::Done if self.left.is_none_or(|left| left == 0) => {
                    self.ended = true;
                    if let Some(conversation) = self.conversation.take() {
                        conversation.release();
                    }
                }
                _ => return Poll::Ready(Err(FilesError::Unexpected)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let held = ready!(self.poll_held(cx));
        if let Err(error) = held {
            tracing::debug!(error = %ErrorChain(&error), "a download broke off");
            self.conversation = None;
            return Poll::Ready(Some(Err(io::Error::other(ErrorChain(&error).to_string()))));
        }
        let Some(bytes) = self.held.take() else {
            return Poll::Ready(None);
        };
        if let Some(owed) = &mut self.owed {
            *owed = owed.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.owed.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

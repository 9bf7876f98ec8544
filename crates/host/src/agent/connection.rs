//! One connection to an agent: frames in, frames out.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_proto::{Direction, FrameError, HEADER_LEN, Header, MessageError, Reply, Request};
use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio::io::AsyncWrite;
use tokio::net::UnixStream;
use tokio_util::io::poll_read_buf;

/// Room for what a short run sends; it grows to a whole frame where a frame needs it.
const BUFFER_BYTES: usize = 4 * 1024;

/// How long the word that cancels a run may take to go out.
const CANCEL_BOUND: Duration = Duration::from_secs(30);

/// Carries one request at a time; dropping it cancels the request in progress, but for a run, which has to be
/// [cancelled](Self::cancel).
#[derive(Debug)]
pub(crate) struct AgentConnection {
    stream: UnixStream,
    /// Read and not decoded yet.
    buffer: BytesMut,
}

#[derive(Debug, Error)]
pub(crate) enum AgentError {
    #[error("cannot connect to the VM's socket")]
    Connect(#[source] io::Error),
    #[error("nothing in the guest listens for the host")]
    Refused,
    #[error("cannot send to the agent")]
    Send(#[source] io::Error),
    #[error("cannot read from the agent")]
    Read(#[source] io::Error),
    #[error("the agent closed the connection")]
    Closed,
    #[error("the agent broke the protocol")]
    Frame(#[source] FrameError),
    #[error("the agent sent something that is not a message")]
    Message(#[source] MessageError),
    #[error("the request cannot be encoded")]
    Encode(#[source] MessageError),
    #[error("the agent speaks protocol version {theirs}, this host speaks {ours}")]
    Version { theirs: u16, ours: u16 },
    #[error("the agent answered {expected} with something else")]
    Unexpected { expected: &'static str },
    #[error("the agent refused: {0}")]
    Failed(String),
    #[error("the system gave no randomness for the guest")]
    Entropy,
    #[error("the agent did not answer in time")]
    Silent,
}

impl AgentError {
    /// The agent itself has done what it must not; anything else may be the VM's end.
    pub(crate) fn is_breach(&self) -> bool {
        matches!(
            self,
            Self::Frame(_) | Self::Message(_) | Self::Version { .. } | Self::Unexpected { .. } | Self::Silent
        )
    }
}

impl AgentConnection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Sends a whole request and waits for one reply.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<Reply, AgentError> {
        self.send(request).await?;
        self.reply().await
    }

    /// Interrupts the run in progress: without a word the guest would take this host for dead and carry it on.
    pub(crate) fn cancel(self) {
        let Ok(frame) = Request::Cancel.encode() else {
            return;
        };
        let sent = match self.stream.try_write(&frame) {
            Ok(count) if count == frame.len() => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // The VM is gone, and the run with it.
            Err(_) => return,
        };
        // A guest that is behind with reading gets it as soon as it has read on.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let mut this = self;
                let mut sent = sent;
                let sending = poll_fn(|cx| this.poll_send(cx, &frame, &mut sent));
                drop(tokio::time::timeout(CANCEL_BOUND, sending).await);
            });
        }
    }

    /// Sends a whole request, whose answers are asked for one by one.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<(), AgentError> {
        let frame = request.encode().map_err(AgentError::Encode)?;
        let mut sent = 0;
        poll_fn(|cx| self.poll_send(cx, &frame, &mut sent)).await
    }

    pub(crate) async fn reply(&mut self) -> Result<Reply, AgentError> {
        poll_fn(|cx| self.poll_reply(cx)).await
    }

    /// Sends what is left of `frame` after `sent` bytes.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        frame: &[u8],
        sent: &mut usize,
    ) -> Poll<Result<(), AgentError>> {
        while *sent < frame.len() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &frame[*sent..]);
            match ready!(written).map_err(AgentError::Send)? {
                0 => return Poll::Ready(Err(AgentError::Closed)),
                count => *sent += count,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a header and a body that is not copied behind it. A reply that comes before all of it is sent ends the
    /// sending: the agent does not want it.
    pub(crate) async fn send_or_hear(
        &mut self,
        header: &[u8; HEADER_LEN],
        body: &[u8],
    ) -> Result<Option<Reply>, AgentError> {
        let mut sent = 0;
        poll_fn(|cx| {
            while sent < HEADER_LEN + body.len() {
                let rest = [
                    IoSlice::new(&header[sent.min(HEADER_LEN)..]),
                    IoSlice::new(&body[sent.saturating_sub(HEADER_LEN)..]),
                ];
                match Pin::new(&mut self.stream).poll_write_vectored(cx, &rest) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(AgentError::Closed)),
                    Poll::Ready(Ok(count)) => sent += count,
                    // What it said before it closed says why.
                    Poll::Ready(Err(error)) => {
                        return match self.poll_reply(cx) {
                            Poll::Ready(Ok(reply)) => Poll::Ready(Ok(Some(reply))),
                            _ => Poll::Ready(Err(AgentError::Send(error))),
                        };
                    }
                    Poll::Pending => return self.poll_reply(cx).map_ok(Some),
                }
            }
            Poll::Ready(Ok(None))
        })
        .await
    }

    pub(crate) fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, AgentError>> {
        loop {
            let missing = match self.next_frame()? {
                Next::Reply(reply) => return Poll::Ready(Ok(reply)),
                Next::Missing(bytes) => bytes,
            };
            self.buffer.reserve(missing.max(BUFFER_BYTES));
            let count = ready!(self.poll_read(cx)).map_err(AgentError::Read)?;
            if count == 0 {
                return Poll::Ready(Err(AgentError::Closed));
            }
        }
    }

    /// True when nothing that was sent is left over, so that the next reply belongs to the next request.
    pub(crate) fn is_clean(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The bare stream, and what has come of it already; for a connection that carries frames no more.
    pub(crate) fn into_bare(self) -> (UnixStream, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Gives back the memory that a run with much output needed.
    pub(crate) fn rest(&mut self) {
        if self.buffer.capacity() > 4 * BUFFER_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Reads up to and including a newline, at most `max` bytes of text.
    pub(super) async fn line(&mut self, max: usize) -> Result<String, AgentError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
            }
            if self.buffer.len() > max {
                return Err(AgentError::Unexpected { expected: "CONNECT" });
            }
            self.buffer.reserve(max + 1);
            let count = poll_fn(|cx| self.poll_read(cx)).await.map_err(AgentError::Read)?;
            if count == 0 {
                return Err(AgentError::Refused);
            }
        }
    }

    fn next_frame(&mut self) -> Result<Next, AgentError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(Next::Missing(HEADER_LEN));
        };
        let header = Header::decode(*header, Direction::GuestToHost).map_err(AgentError::Frame)?;
        let len = HEADER_LEN + header.body_len;
        let Some(body) = self.buffer.get(HEADER_LEN..len) else {
            return Ok(Next::Missing(len - self.buffer.len()));
        };
        let reply = Reply::decode(header.kind, body.to_vec()).map_err(AgentError::Message)?;
        self.buffer.advance(len);
        Ok(Next::Reply(reply))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer)
    }
}

enum Next {
    Reply(Reply),
    /// At least this many bytes are missing.
    Missing(usize),
}

//! One connection to a program that listens in a guest.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use agent_proto::{PortRequest, Reply, Request};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::PortError;
use crate::agent::{self, AgentConnection, AgentError};
use crate::sandbox::Sandbox;

/// From the request until the program has taken the connection. The agent itself gives it 10 s.
const CONNECT_BOUND: Duration = Duration::from_secs(25);

/// The program's bytes, both ways. Dropping it closes the program's connection; so does the end of the VM.
pub(crate) struct Tunnel {
    stream: UnixStream,
    /// What came together with the agent's answer.
    first: BytesMut,
    sandbox: Arc<Sandbox>,
    /// Bytes so far, both ways.
    moved: Arc<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

impl Tunnel {
    /// Counts the bytes that go through.
    pub(crate) fn moved(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    /// Connects to whatever listens on a port.
    pub(crate) async fn open(sandbox: &Arc<Sandbox>, port: u16) -> Result<Self, PortError> {
        let permit = sandbox.ports.turn().await?;
        sandbox.touch();
        let answer = async {
            let mut connection = send(sandbox, PortRequest::Connect { port }).await?;
            let reply = connection.reply().await?;
            Ok((reply, connection))
        };
        match within(CONNECT_BOUND, sandbox, answer).await? {
            (Reply::Done, connection) => {
                let (stream, first) = connection.into_bare();
                Ok(Self {
                    stream,
                    first,
                    sandbox: Arc::clone(sandbox),
                    moved: Arc::default(),
                    _permit: permit,
                })
            }
            (Reply::Failed(failure), connection) => {
                if connection.is_clean() {
                    sandbox.keep_connection(connection);
                }
                Err(PortError::of(failure, port))
            }
            _ => Err(PortError::Agent(AgentError::Unexpected { expected: "Connect" })),
        }
    }
}

/// Sends a request over a connection that has lain idle, or over a new one.
pub(super) async fn send(sandbox: &Sandbox, request: PortRequest) -> Result<AgentConnection, AgentError> {
    let request = Request::Port(request);
    if let Some(mut warm) = sandbox.warm_connection()
        // One that has lain idle may have been closed by the agent, which has not got the request then.
        && warm.send(&request).await.is_ok()
    {
        return Ok(warm);
    }
    let mut connection = agent::connect(&sandbox.files.vsock_socket()).await?;
    connection.send(&request).await?;
    Ok(connection)
}

/// Bounds a wait for an agent, and says why the agent is gone if it is.
pub(super) async fn within<T>(
    bound: Duration,
    sandbox: &Sandbox,
    work: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, PortError> {
    let error = match timeout(bound, work).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error,
        Err(_) => AgentError::Silent,
    };
    Err(match sandbox.mourn().await {
        Some(why) => PortError::Lost(why),
        None => PortError::Agent(error),
    })
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = if self.first.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        } else {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..count]);
            self.first.advance(count);
            Poll::Ready(Ok(()))
        };
        let count = buffer.filled().len() - before;
        self.sandbox.sent(count);
        self.moved.fetch_add(count as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends what goes to the program; what comes from it goes on.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Tunnel {
    fn note(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = written {
            self.sandbox.received(*count);
            self.moved.fetch_add(*count as u64, Ordering::Relaxed);
        }
    }
}

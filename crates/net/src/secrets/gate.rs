//! The way to the real host, which can be closed from another thread, and notes when something moved.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Nothing is sent through it once its token is cancelled, whatever was written above it before: what was encrypted and
/// not yet sent may hold a secret that has been taken away.
pub(super) struct Gate<S> {
    pub(super) inner: S,
    pub(super) end: CancellationToken,
    pub(super) activity: Activity,
}

/// When something last moved.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    start: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Activity {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            last_ms: Arc::default(),
        }
    }

    fn note(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Waits until nothing has moved for so long.
    pub(super) async fn idle(&self, max: Duration) {
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let end = self.start + last + max;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end.into()).await;
        }
    }
}

impl<S> Gate<S> {
    fn pass<T>(&self, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(moved, Poll::Ready(Ok(_))) {
            self.activity.note();
        }
        moved
    }

    fn closed(&self) -> Option<io::Error> {
        self.end
            .is_cancelled()
            .then(|| io::Error::from(io::ErrorKind::ConnectionAborted))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.pass(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.closed() {
            return Poll::Ready(Err(error));
        }
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.pass(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn nothing_goes_through_a_gate_that_was_closed() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (inner, mut outside) = tokio::io::duplex(64);
            let end = CancellationToken::new();
            let mut gate = Gate {
                inner,
                end: end.clone(),
                activity: Activity::start(),
            };
            gate.write_all(b"before").await.unwrap();
            end.cancel();
            assert!(gate.write_all(b"after").await.is_err());
            drop(gate);
            let mut all = Vec::new();
            outside.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"before");
        });
    }
}

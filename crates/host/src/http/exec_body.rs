//! The response body of a run that takes longer than a moment.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

use crate::sandbox::RunStream;

/// Yields events as soon as nothing more can be put in the same chunk, and a bare newline whenever nothing has been
/// sent for a while. Dropping it cancels the run.
pub(super) struct ExecBody {
    run: RunStream,
    heartbeat: Duration,
    /// Fires a heartbeat after the last time it was looked at, not after the last chunk: see [`Self::poll_heartbeat`].
    alarm: Pin<Box<Sleep>>,
    last_chunk: Instant,
}

impl ExecBody {
    pub(super) fn new(run: RunStream, heartbeat: Duration) -> Self {
        Self {
            run,
            heartbeat,
            alarm: Box::pin(sleep(heartbeat)),
            last_chunk: Instant::now(),
        }
    }

    /// The alarm is not set again with every chunk, which would cost each chunk a timer; it looks at the clock when
    /// it goes off.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let due = self.last_chunk + self.heartbeat;
            let now = Instant::now();
            let is_due = due <= now;
            self.alarm
                .as_mut()
                .reset(if is_due { now + self.heartbeat } else { due });
            if is_due {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Body for ExecBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let ended = this.run.poll(cx).is_ready() && this.run.end().is_some();
        if ended {
            this.run.confess();
        }
        if this.run.has_events() {
            this.last_chunk = Instant::now();
            return Poll::Ready(Some(Ok(Frame::data(this.run.take_events()))));
        }
        if ended {
            return Poll::Ready(None);
        }
        if this.poll_heartbeat(cx).is_ready() {
            this.last_chunk = Instant::now();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"\n")))));
        }
        Poll::Pending
    }
}

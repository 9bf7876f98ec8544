//! What nobody has read of a request's body when its answer is there.
//!
//! Unless the rest happens to have come by then, the connection is closed after such an answer, without a word. A client
//! that sends its next request on it is cut off. So the rest is taken off the connection where it is little and comes
//! soon; otherwise the answer says that the connection ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// So much of a body is taken that nobody wants, in bytes.
const LITTLE: u64 = 1024 * 1024;
/// For so long it is waited for.
const SOON: Duration = Duration::from_secs(1);

/// A body that can be taken up again by [`Rest`] when whoever read it stops.
#[derive(Debug)]
pub(super) struct Shared(Arc<Mutex<Incoming>>);

/// The same body, for afterwards.
#[derive(Debug)]
pub(super) struct Rest {
    body: Arc<Mutex<Incoming>>,
    /// The client sends the body only when it is asked for.
    waits_for_leave: bool,
}

impl Rest {
    pub(super) fn of(request: Request<Incoming>) -> (Request<Shared>, Self) {
        let waits_for_leave = request.headers().contains_key(header::EXPECT);
        let (head, body) = request.into_parts();
        let body = Arc::new(Mutex::new(body));
        let rest = Self {
            body: Arc::clone(&body),
            waits_for_leave,
        };
        (Request::from_parts(head, Shared(body)), rest)
    }

    /// Leaves the connection such that the response says the truth about it.
    pub(super) async fn settle(self, response: &mut Response) {
        // Somebody who still has the other half reads on.
        let Some(body) = Arc::into_inner(self.body) else {
            return;
        };
        let body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
        if body.is_end_stream() {
            return;
        }
        let little = body.size_hint().exact().is_some_and(|bytes| bytes <= LITTLE);
        let taken =
            little && !self.waits_for_leave && matches!(timeout(SOON, body.collect()).await, Ok(Ok(_)));
        if !taken {
            let ends = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, ends);
        }
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *self.inner()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner().size_hint()
    }
}

//! The body of a terminal's stream: events as lines, and a bare newline whenever nothing has been sent for a while.
//!
//! Dropping it detaches from the terminal, whose program goes on.

use std::convert::Infallible;
use std::time::Duration;

use api::PtyEvent;
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::time::timeout;

use crate::pty::PtyStream;

/// `first` comes before anything of the terminal.
pub(super) fn stream(first: Option<PtyEvent>, follower: PtyStream, heartbeat: Duration) -> Body {
    // A stream without anything to say begins with a heartbeat, so that its client sees at once that it has begun.
    let first = Bytes::from(first.map_or_else(|| b"\n".to_vec(), |event| event.line()));
    let chunks = stream::unfold((Some(first), follower), move |(first, mut follower)| async move {
        if let Some(first) = first {
            return Some((Ok::<_, Infallible>(first), (None, follower)));
        }
        let chunk = match timeout(heartbeat, follower.next()).await {
            Err(_) => Bytes::from_static(b"\n"),
            Ok(event) => event?.events().iter().flat_map(PtyEvent::line).collect(),
        };
        Some((Ok(chunk), (None, follower)))
    });
    Body::from_stream(chunks)
}

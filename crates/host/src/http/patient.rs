//! A creation that takes long.
//!
//! The official client gives up after 30 s without a byte, and a VM that boots on a busy software host may need longer.
//! So the answer is begun before its outcome is known: JSON may start with white space. Its status is fixed then, and a
//! creation that fails after that breaks the connection off, which no client takes for success.

use std::future::Future;
use std::io;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::time::timeout;

use super::error::Failed;
use crate::config::Timing;
use crate::host::Marks;

/// Where the time of a request went, hop by hop.
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Answers with what `outcome` comes to. Dropping the response drops `outcome`.
pub(super) async fn answer<T, F>(outcome: F, timing: &Timing) -> Result<Response, Failed>
where
    T: Serialize,
    F: Future<Output = Result<(T, Marks), Failed>> + Send + 'static,
{
    let mut outcome = Box::pin(outcome);
    if let Ok(soon) = timeout(timing.hold_create, &mut outcome).await {
        let (value, marks) = soon?;
        return Ok(([(SERVER_TIMING, marks.header())], Json(value)).into_response());
    }
    let heartbeat = timing.heartbeat;
    let body = stream::unfold(Some(outcome), move |waiting| async move {
        let mut outcome = waiting?;
        Some(match timeout(heartbeat, &mut outcome).await {
            Err(_) => (Ok(Bytes::from_static(b" ")), Some(outcome)),
            Ok(late) => (encode(late), None),
        })
    });
    Ok((
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(body),
    )
        .into_response())
}

fn encode<T: Serialize>(late: Result<(T, Marks), Failed>) -> io::Result<Bytes> {
    match late {
        Ok((value, _)) => serde_json::to_vec(&value)
            .map(Bytes::from)
            .map_err(io::Error::other),
        Err(Failed(error)) => Err(io::Error::other(error.message)),
    }
}

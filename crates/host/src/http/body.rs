//! Reading a request's body, within its bound.

use std::pin::Pin;
use std::time::Duration;

use api::{ApiError, BODY_BYTES_MAX, ErrorCode};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// A client that sends no byte of its body for this long has gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Of a body that is too large this much more is read and thrown away, so that a client that sends first and reads
/// later still gets the answer.
const DRAIN_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Memory is set aside for a body as it comes, not as it is announced.
const FIRST_CAPACITY_MAX: usize = 1024 * 1024;

/// The whole body. One that came in a single piece is not copied.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let announced: Option<u64> = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let waits_for_leave = headers.contains_key(header::EXPECT);
    if announced.is_some_and(|len| len > BODY_BYTES_MAX as u64 && (waits_for_leave || len > DRAIN_BYTES_MAX))
    {
        return Err(too_large());
    }
    let mut body = Pin::new(Box::new(body));
    let Some(first) = next(&mut body).await? else {
        return Ok(Bytes::new());
    };
    if first.len() as u64 == announced.unwrap_or(u64::MAX) {
        return Ok(first);
    }
    let capacity = announced.map_or(0, |len| usize::try_from(len).unwrap_or(usize::MAX));
    let mut whole = BytesMut::with_capacity(capacity.min(FIRST_CAPACITY_MAX));
    whole.extend_from_slice(&first);
    drop(first);
    while let Some(piece) = next(&mut body).await? {
        if whole.len() + piece.len() > BODY_BYTES_MAX {
            drop(whole);
            drain(&mut body).await;
            return Err(too_large());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

pub(super) async fn next(body: &mut Pin<Box<Body>>) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| {
            let text = format!("the body stopped for {} s before its end", SILENCE.as_secs());
            ApiError::new(ErrorCode::InvalidBody, text)
        })?;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                // Trailers say nothing here.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => {
                let text = format!("the body broke off: {error}");
                return Err(ApiError::new(ErrorCode::InvalidBody, text));
            }
        }
    }
}

pub(super) async fn drain(body: &mut Pin<Box<Body>>) {
    let mut drained = 0;
    while drained < DRAIN_BYTES_MAX {
        match next(body).await {
            Ok(Some(piece)) => drained += piece.len() as u64,
            Ok(None) | Err(_) => return,
        }
    }
}

fn too_large() -> ApiError {
    let mib = BODY_BYTES_MAX / (1024 * 1024);
    ApiError::new(
        ErrorCode::BodyTooLarge,
        format!("the body is larger than the limit of {mib} MiB ({BODY_BYTES_MAX} bytes)"),
    )
}

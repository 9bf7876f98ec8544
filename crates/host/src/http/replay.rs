//! `GET /v1/sandboxes/{id}/replay`.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::ReplayRequest;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::time::sleep;

use super::error::{Failed, no_sandbox};
use super::exec::STREAM_HEADERS;
use super::front::sandbox_id;
use crate::auth::Tenant;
use crate::host::Host;
use crate::sandbox::Sandbox;

pub(super) async fn replay(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let wanted = ReplayRequest::parse(request.uri().query().unwrap_or_default())?;
    let sandbox = host.find(sandbox_id(&request)?, tenant).ok_or_else(no_sandbox)?;
    let body = if wanted.follow {
        follow(sandbox, host.config().timing.heartbeat)
    } else {
        let mut whole = BytesMut::new();
        for piece in sandbox.replay.all() {
            whole.extend_from_slice(&piece);
        }
        Body::from(whole.freeze())
    };
    Ok((STREAM_HEADERS, body).into_response())
}

/// What there is, then what comes, until no run is in progress any more.
fn follow(sandbox: Arc<Sandbox>, heartbeat: Duration) -> Body {
    let begin = sandbox.replay.begin();
    Body::from_stream(stream::unfold(
        (sandbox, begin),
        move |(sandbox, position)| async move {
            let (bytes, position) = next(&sandbox, position, heartbeat).await?;
            Some((Ok::<_, Infallible>(bytes), (sandbox, position)))
        },
    ))
}

async fn next(sandbox: &Sandbox, position: u64, heartbeat: Duration) -> Option<(Bytes, u64)> {
    let mut silence = pin!(sleep(heartbeat));
    loop {
        let mut changed = pin!(sandbox.replay.changed());
        changed.as_mut().enable();
        // In this order: a run's last events are there before it counts as ended.
        let in_progress = sandbox.runs() > 0;
        if let Some(found) = sandbox.replay.at(position) {
            return Some(found);
        }
        if !in_progress {
            return None;
        }
        tokio::select! {
            () = changed => {}
            () = silence.as_mut() => return Some((Bytes::from_static(b"\n"), position)),
        }
    }
}

//! `POST /v1/sandboxes/{id}/exec`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use agent_proto::FailureCode;
use api::{ApiError, ErrorCode, ExecRequest, Language};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use tokio::time::sleep;

use super::body;
use super::error::{Failed, no_sandbox, run_refused, sandbox_failed, stopping};
use super::exec_body::ExecBody;
use super::front::sandbox_id;
use crate::auth::Tenant;
use crate::config::Timing;
use crate::host::Host;
use crate::sandbox::{RunEnd, RunStream};

pub(super) async fn exec(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let received = Instant::now();
    let id = sandbox_id(&request);
    let (head, content) = request.into_parts();
    let wanted = ExecRequest::parse(&body::read(&head.headers, content).await?)?;
    let sandbox = host.find(id?, tenant).ok_or_else(no_sandbox)?;
    if host.is_stopping() {
        return Err(stopping());
    }
    let frame = encode(wanted)?;
    let ticket = sandbox
        .begin_run()
        .map_err(|refused| run_refused(refused, &sandbox))?;
    let mut run = RunStream::new(Arc::clone(&sandbox), ticket, frame, received);
    let timing = &host.config().timing;
    hold(&mut run, timing).await;
    let body = match run.end() {
        // Nothing has been sent, so it can still be said with a status.
        Some(RunEnd::Refused { code, message }) if !run.has_events() => {
            return Err(Failed(refused(*code, message.clone())));
        }
        Some(RunEnd::Lost(why)) if !run.has_events() => {
            return Err(Failed(sandbox_failed(why.clone(), &sandbox)));
        }
        Some(RunEnd::Exit(_)) => Body::from(run.take_events()),
        _ => Body::new(ExecBody::new(run, timing.heartbeat)),
    };
    Ok((HEADERS, body).into_response())
}

pub(super) const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    // Asks nginx and its like not to collect the stream.
    (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    ),
];

/// Waits a moment for a short run to end, so that its whole answer is one packet of known length. A packet costs
/// more than the wait where the client is behind a user-space network.
async fn hold(run: &mut RunStream, timing: &Timing) {
    let mut patience = std::pin::pin!(sleep(timing.hold_silent));
    let mut has_events = false;
    poll_fn(|cx| {
        if run.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if run.has_events() && !has_events {
            has_events = true;
            let until = tokio::time::Instant::now() + timing.hold_output;
            if until < patience.deadline() {
                patience.as_mut().reset(until);
            }
        }
        patience.as_mut().poll(cx)
    })
    .await;
}

fn encode(wanted: ExecRequest) -> Result<Vec<u8>, Failed> {
    let request = agent_proto::Request::Exec(agent_proto::ExecRequest {
        language: match wanted.language {
            Language::Python => agent_proto::Language::Python,
            Language::Bash => agent_proto::Language::Bash,
        },
        timeout_ms: wanted.timeout_ms,
        code: wanted.code,
    });
    request
        .encode()
        .map_err(|error| Failed(ApiError::new(ErrorCode::InvalidField, format!("code: {error}"))))
}

fn refused(code: FailureCode, message: String) -> ApiError {
    match code {
        FailureCode::BadRequest => ApiError::new(ErrorCode::InvalidField, message),
        FailureCode::Busy => ApiError::new(ErrorCode::TooManyExecs, message).retry_after(1),
        // `Exec` names nothing that could be missing, so that would be an agent out of step.
        FailureCode::Internal | FailureCode::NotFound => ApiError::new(ErrorCode::AgentFailed, message),
    }
}

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
use telemetry::TraceContext;
use tokio::time::sleep;

use super::body;
use super::error::{Failed, no_sandbox, run_refused, sandbox_failed, stopping};
use super::exec_body::ExecBody;
use super::front::sandbox_id;
use crate::auth::Tenant;
use crate::config::Timing;
use crate::host::Host;
use crate::sandbox::{Run, RunEnd, RunStream};
use crate::tenants::AuditNote;

pub(super) async fn exec(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let received = Instant::now();
    let id = sandbox_id(&request);
    let (head, content) = request.into_parts();
    let content = body::read(&head.headers, content).await?;
    let wanted = ExecRequest::parse(&content)?;
    let (received_bytes, code_bytes) = (content.len(), wanted.code.len());
    drop(content);
    let sandbox = host.find(id?, tenant).ok_or_else(no_sandbox)?;
    if host.is_stopping() {
        return Err(stopping());
    }
    let trace = head.extensions.get::<TraceContext>().map(ToString::to_string);
    let run = Run {
        language: language(wanted.language),
        frame: encode(wanted, trace)?,
        received,
    };
    let ticket = sandbox
        .begin_run()
        .map_err(|refused| run_refused(refused, &sandbox))?;
    sandbox.received(received_bytes);
    let mut run = RunStream::new(Arc::clone(&sandbox), ticket, run);
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
    let note = AuditNote {
        target: None,
        detail: Some(format!("{code_bytes} bytes")),
    };
    Ok((STREAM_HEADERS, Extension(note), body).into_response())
}

pub(super) const STREAM_HEADERS: [(HeaderName, HeaderValue); 3] = [
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

fn language(wanted: Language) -> agent_proto::Language {
    match wanted {
        Language::Python => agent_proto::Language::Python,
        Language::Bash => agent_proto::Language::Bash,
    }
}

fn encode(wanted: ExecRequest, traceparent: Option<String>) -> Result<Vec<u8>, Failed> {
    let request = agent_proto::Request::Exec(agent_proto::ExecRequest {
        language: language(wanted.language),
        timeout_ms: wanted.timeout_ms,
        traceparent,
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

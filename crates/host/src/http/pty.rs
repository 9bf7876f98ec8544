//! `/v1/sandboxes/{id}/pty` and what is below it.

use std::sync::Arc;

use agent_proto::FailureCode;
use api::{
    ApiError, ErrorCode, InvalidRequest, PtyCreateRequest, PtyEvent, PtyInfo, PtyInputRequest, PtyReadAnswer,
    PtyReadRequest, PtyResizeRequest,
};
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use lifecycle::Phase;
use pod_types::{ErrorChain, PtyId};

use super::error::{Failed, no_sandbox, sandbox_failed};
use super::exec::STREAM_HEADERS;
use super::front::sandbox_id;
use super::ready::{find, ready};
use super::{body, pty_body, pty_socket};
use crate::auth::Tenant;
use crate::host::Host;
use crate::pty::{self, PtyError};
use crate::sandbox::Sandbox;

type WantsSocket = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// What the guest cannot do is said on the stream: the official client shows nothing of a status.
pub(super) async fn create(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let id = sandbox_id(&request);
    let (head, content) = request.into_parts();
    let wanted = PtyCreateRequest::parse(&body::read(&head.headers, content).await?)?;
    let sandbox = ready(&host, host.find(id?, tenant).ok_or_else(no_sandbox)?)?;
    let pty = PtyId::random().map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    let body = match pty::create(&sandbox, pty, wanted).await {
        Ok(stream) => pty_body::stream(
            Some(PtyEvent::PtyReady { session_id: pty }),
            stream,
            host.config().timing.heartbeat,
        ),
        Err(error @ (PtyError::TooManyStreams | PtyError::Lost(_))) => return Err(failed(error, &sandbox)),
        Err(error) => {
            let message = ErrorChain(&error).to_string();
            Body::from(Bytes::from(PtyEvent::PtyError { message }.line()))
        }
    };
    Ok((STREAM_HEADERS, body).into_response())
}

pub(super) async fn list(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<Vec<PtyInfo>>, Failed> {
    let sandbox = find(&host, tenant, &request)?;
    let list = pty::list(&sandbox).await;
    list.map(Json).map_err(|error| failed(error, &sandbox))
}

/// A stream of lines, or, for browsers, a WebSocket.
pub(super) async fn attach(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    socket: WantsSocket,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let sandbox = find(&host, tenant, &request)?;
    let pty = pty_id(&request)?;
    let since = since_seq(request.uri().query())?;
    let wants_socket = request.headers().contains_key(header::UPGRADE);
    let socket = match socket {
        Ok(socket) => Some(socket),
        Err(rejection) if wants_socket => {
            return Err(Failed(ApiError::new(
                ErrorCode::InvalidField,
                rejection.body_text(),
            )));
        }
        Err(_) => None,
    };
    let attached = pty::attach(&sandbox, pty, since).await;
    let stream = attached.map_err(|error| failed(error, &sandbox))?;
    let heartbeat = host.config().timing.heartbeat;
    Ok(match socket {
        Some(socket) => pty_socket::upgrade(socket, sandbox, pty, stream, heartbeat),
        None => (STREAM_HEADERS, pty_body::stream(None, stream, heartbeat)).into_response(),
    })
}

pub(super) async fn input(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    let (sandbox, pty, content) = target(&host, tenant, request).await?;
    let wanted = PtyInputRequest::parse(&content)?;
    let done = pty::input(&sandbox, pty, wanted.data).await;
    done.map_err(|error| failed(error, &sandbox))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn resize(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    let (sandbox, pty, content) = target(&host, tenant, request).await?;
    let wanted = PtyResizeRequest::parse(&content)?;
    let done = pty::resize(&sandbox, pty, wanted).await;
    done.map_err(|error| failed(error, &sandbox))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn kill(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    let (sandbox, pty, _) = target(&host, tenant, request).await?;
    let done = pty::kill(&sandbox, pty).await;
    done.map_err(|error| failed(error, &sandbox))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn read(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<PtyReadAnswer>, Failed> {
    let (sandbox, pty, content) = target(&host, tenant, request).await?;
    let wanted = PtyReadRequest::parse(&content)?;
    let answer = pty::read(&sandbox, pty, wanted).await;
    answer.map(Json).map_err(|error| failed(error, &sandbox))
}

async fn target(
    host: &Host,
    tenant: Tenant,
    request: Request<Body>,
) -> Result<(Arc<Sandbox>, PtyId, Bytes), Failed> {
    let sandbox = find(host, tenant, &request)?;
    let pty = pty_id(&request)?;
    let (head, content) = request.into_parts();
    Ok((sandbox, pty, body::read(&head.headers, content).await?))
}

/// The terminal that a path `/v1/sandboxes/{id}/pty/{pty}/…` names.
fn pty_id(request: &Request<Body>) -> Result<PtyId, Failed> {
    let id = request
        .uri()
        .path()
        .split('/')
        .nth(5)
        .and_then(|id| id.parse().ok());
    id.ok_or_else(|| Failed(pty_not_found()))
}

fn since_seq(query: Option<&str>) -> Result<u64, Failed> {
    let mut values = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("since_seq="));
    let Some(value) = values.next_back() else {
        return Ok(0);
    };
    value.parse().map_err(|_| {
        Failed::from(InvalidRequest::Field {
            field: "since_seq",
            expected: "the number of a byte".to_owned(),
            got: value.chars().take(60).collect(),
        })
    })
}

fn pty_not_found() -> ApiError {
    ApiError::new(ErrorCode::PtyNotFound, "pty not found")
}

fn failed(error: PtyError, sandbox: &Sandbox) -> Failed {
    let text = ErrorChain(&error).to_string();
    Failed(match error {
        PtyError::NotFound => pty_not_found(),
        PtyError::TooManyStreams => ApiError::new(ErrorCode::TooManyPtyStreams, text)
            .hint("close one of their connections")
            .retry_after(1),
        PtyError::TooManyAsks => ApiError::new(ErrorCode::TooManyPtyStreams, text).retry_after(1),
        PtyError::Refused {
            code: FailureCode::BadRequest,
            ..
        } => ApiError::new(ErrorCode::PtyExited, text),
        PtyError::Refused {
            code: FailureCode::Busy,
            ..
        } => ApiError::new(ErrorCode::PtyNotReading, text),
        PtyError::Refused { .. } | PtyError::Agent(_) => ApiError::new(ErrorCode::AgentFailed, text),
        PtyError::Lost(_) => match sandbox.phase() {
            Phase::Ending { .. } | Phase::Gone { .. } => return no_sandbox(),
            _ => sandbox_failed(text, sandbox),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_begin_is_a_number() {
        let parse = |query: &str| since_seq(Some(query)).map_err(|Failed(error)| error.message.into_owned());
        assert_eq!(
            (parse(""), parse("a=b"), parse("a&since_seq=7")),
            (Ok(0), Ok(0), Ok(7))
        );
        let refusal = parse("since_seq=-1").unwrap_err();
        assert_eq!(refusal, "since_seq: expected the number of a byte, got -1");
    }
}

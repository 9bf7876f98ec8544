//! What every request passes before the router.

use std::sync::{Arc, OnceLock};

use api::{ApiError, ErrorCode};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper::body::Incoming;
use pod_types::SandboxId;
use tower::Service as _;
use tracing::Instrument as _;

use super::error::{Failed, not_found};
use super::{diff, exec, files, forks, sandboxes, status, trace_context};
use crate::auth::{Auth, Refusal};
use crate::host::Host;

/// The whole HTTP API. It serves from the first moment, and says that it starts until it has a host.
#[derive(Debug)]
pub struct Api {
    auth: Auth,
    /// The only region served under `/r/<region>/`; any when there is none.
    region: Option<String>,
    router: OnceLock<(Arc<Host>, Router)>,
}

impl Api {
    #[must_use]
    pub fn new(auth: Auth, region: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            auth,
            region,
            router: OnceLock::new(),
        })
    }

    /// From now on calls are answered. Only the first host counts.
    pub fn ready(&self, host: Arc<Host>) {
        let router = router(Arc::clone(&host));
        drop(self.router.set((host, router)));
    }

    pub(super) async fn answer(&self, mut request: hyper::Request<Incoming>) -> Response {
        match without_prefix(request.uri(), self.region.as_deref()) {
            Ok(None) => {}
            Ok(Some(uri)) => *request.uri_mut() = uri,
            Err(error) => return error.into_response(),
        }
        let ready = self.router.get();
        if request.uri().path() == "/v1/healthz" {
            return status::healthz(request.method(), ready.map(|(host, _)| &**host));
        }
        let authorization = request.headers().get(header::AUTHORIZATION);
        let tenant = match self.auth.admit(authorization.map(header::HeaderValue::as_bytes)) {
            Ok(tenant) => tenant,
            Err(refusal) => return unauthorized(refusal).into_response(),
        };
        let Some((_, router)) = ready else {
            let error = ApiError::new(ErrorCode::ShuttingDown, "the host is starting").retry_after(1);
            return Failed(error).into_response();
        };
        request.extensions_mut().insert(tenant);
        let span = span(&request);
        // The router is always ready and never fails.
        let Ok(response) = router.clone().call(request).instrument(span).await;
        response
    }
}

fn router(host: Arc<Host>) -> Router {
    Router::new()
        .route("/v1/sandboxes", post(sandboxes::create).get(sandboxes::list))
        .route(
            "/v1/sandboxes/{id}",
            get(sandboxes::show).delete(sandboxes::delete),
        )
        .route("/v1/sandboxes/{id}/exec", post(exec::exec))
        .route("/v1/sandboxes/{id}/fork", post(forks::fork))
        .route("/v1/sandboxes/{id}/merge_into/{winner}", post(forks::merge))
        .route("/v1/sandboxes/{id}/diff/{other}", get(diff::diff))
        .route("/v1/sandboxes/{id}/files", files::routes())
        .route("/v1/sandboxes/{id}/files/watch", files::watch_route())
        .route("/v1/sandboxes/{id}/console", get(sandboxes::console))
        .route("/v1/capacity", get(status::capacity))
        .fallback(|| async { not_found() })
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(host)
}

/// The sandbox that a path under `/v1/sandboxes/` names.
pub(super) fn sandbox_id(request: &Request<Body>) -> Result<SandboxId, Failed> {
    let rest = request.uri().path().strip_prefix("/v1/sandboxes/");
    let id = rest.and_then(|rest| rest.split('/').next()?.parse().ok());
    id.ok_or_else(super::error::no_sandbox)
}

async fn method_not_allowed(request: Request<Body>) -> Failed {
    let (method, path) = (request.method(), request.uri().path());
    Failed(ApiError::new(
        ErrorCode::MethodNotAllowed,
        format!("{path} does not take {method}"),
    ))
}

fn unauthorized(refusal: Refusal) -> Failed {
    Failed(match refusal {
        Refusal::Missing => ApiError::new(ErrorCode::MissingKey, "missing Authorization: Bearer <key>"),
        Refusal::Unknown => ApiError::new(ErrorCode::InvalidKey, "invalid api key"),
    })
}

/// The URI without a leading `/r/<region>`; `None` when there is no such prefix.
fn without_prefix(uri: &Uri, region: Option<&str>) -> Result<Option<Uri>, Failed> {
    let Some(rest) = uri.path().strip_prefix("/r/") else {
        return Ok(None);
    };
    let Some((name, _)) = rest.split_once('/') else {
        return Err(not_found());
    };
    if region.is_some_and(|region| !region.eq_ignore_ascii_case(name)) {
        return Err(not_found());
    }
    let whole = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let inner = whole.get("/r/".len() + name.len()..).unwrap_or("/");
    inner.parse().map(Some).map_err(|_| not_found())
}

/// Runs are many and short, so theirs is of the debug level.
fn span(request: &hyper::Request<Incoming>) -> tracing::Span {
    let traceparent = request.headers().get("traceparent");
    let trace = traceparent.and_then(|value| trace_context::parse(value.as_bytes()));
    let (trace_id, parent_span_id) = trace.unzip();
    let (method, path) = (request.method(), request.uri().path());
    if path.ends_with("/exec") {
        tracing::debug_span!("http_request", %method, path, trace_id, parent_span_id)
    } else {
        tracing::info_span!("http_request", %method, path, trace_id, parent_span_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_prefix_is_taken_off_and_nothing_else() {
        let strip = |uri: &str, region: Option<&str>| {
            without_prefix(&uri.parse().unwrap(), region)
                .map(|uri| uri.map(|uri| uri.to_string()))
                .ok()
        };
        assert_eq!(strip("/v1/sandboxes", None), Some(None));
        let inner = Some(Some("/v1/sandboxes?a=b".to_owned()));
        assert_eq!(strip("/r/lab%201/v1/sandboxes?a=b", None), inner);
        assert_eq!(strip("/r/EU/v1/sandboxes?a=b", Some("eu")), inner);
        assert_eq!(strip("/r/us/v1/sandboxes", Some("eu")), None);
        assert_eq!(strip("/r/us", None), None);
    }
}

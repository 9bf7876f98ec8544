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

use super::access::{NoteRoute, RouteNote, Visit};
use super::error::{Failed, not_found};
use super::metrics::{self, Readers};
use super::{diff, exec, forks, sandboxes, status};
use crate::auth::{Auth, Mode, Refusal};
use crate::host::Host;
use crate::metrics::Metrics;

/// The whole HTTP API. It serves from the first moment, and says that it starts until it has a host.
#[derive(Debug)]
pub struct Api {
    auth: Auth,
    /// The only region served under `/r/<region>/`; any when there is none.
    region: Option<String>,
    router: OnceLock<(Arc<Host>, Router)>,
    /// Who may read the metrics on the API's own address.
    readers: Readers,
}

impl Api {
    #[must_use]
    pub fn new(auth: Auth, region: Option<String>, metrics_key: Option<&str>) -> Arc<Self> {
        let calls_need_keys = matches!(auth.mode(), Mode::Keys { .. });
        Arc::new(Self {
            readers: Readers::of(metrics_key, calls_need_keys),
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
        let inner = without_prefix(request.uri(), self.region.as_deref());
        if let Ok(Some(uri)) = &inner {
            *request.uri_mut() = uri.clone();
        }
        let visit = Visit::begin(&mut request);
        let response = match inner {
            Ok(_) => self.admit(request).instrument(visit.span()).await,
            Err(error) => error.into_response(),
        };
        visit.end(&response, self.metrics());
        response
    }

    /// The same where only metrics are to be had, and whoever reaches it may have them.
    pub(super) async fn answer_metrics(&self, request: hyper::Request<Incoming>) -> Response {
        if request.uri().path() == metrics::PATH {
            metrics::answer(request.method(), self.host()).await
        } else {
            not_found().into_response()
        }
    }

    fn host(&self) -> Option<&Arc<Host>> {
        self.router.get().map(|(host, _)| host)
    }

    /// What this host counts, once there is one.
    pub(super) fn metrics(&self) -> Option<&Metrics> {
        self.host().map(|host| &**host.metrics())
    }

    async fn admit(&self, mut request: hyper::Request<Incoming>) -> Response {
        let path = request.uri().path();
        if matches!(path, "/v1/healthz" | metrics::PATH)
            && let Some((counted, note)) = self.metrics().zip(request.extensions().get::<RouteNote>())
        {
            note.set(&counted.http.route(path));
        }
        if path == "/v1/healthz" {
            return status::healthz(request.method(), self.host().map(|host| &**host));
        }
        if path == metrics::PATH {
            let authorization = request.headers().get(header::AUTHORIZATION);
            return match self.readers.admit(authorization) {
                Ok(()) => metrics::answer(request.method(), self.host()).await,
                Err(error) => error.into_response(),
            };
        }
        let authorization = request.headers().get(header::AUTHORIZATION);
        let tenant = match self.auth.admit(authorization.map(header::HeaderValue::as_bytes)) {
            Ok(tenant) => tenant,
            Err(refusal) => return unauthorized(refusal).into_response(),
        };
        let Some((_, router)) = self.router.get() else {
            let error = ApiError::new(ErrorCode::ShuttingDown, "the host is starting").retry_after(1);
            return Failed(error).into_response();
        };
        request.extensions_mut().insert(tenant);
        // The router is always ready and never fails.
        let Ok(response) = router.clone().call(request).await;
        response
    }
}

fn router(host: Arc<Host>) -> Router {
    let note = NoteRoute(Arc::clone(host.metrics()));
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
        .route("/v1/sandboxes/{id}/console", get(sandboxes::console))
        .route("/v1/capacity", get(status::capacity))
        .fallback(|| async { not_found() })
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(host)
        .layer(note)
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

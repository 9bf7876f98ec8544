//! `GET /v1/healthz` and `GET /v1/capacity`.

use std::sync::Arc;

use api::{ApiError, Capacity, ErrorCode};
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

use super::error::Failed;
use crate::host::Host;
use crate::tenants::Caller;

/// The official client wants the bare text `ok`.
pub(super) fn healthz(method: &Method, host: Option<&Host>) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let text = format!("/v1/healthz does not take {method}");
        return Failed(ApiError::new(ErrorCode::MethodNotAllowed, text)).into_response();
    }
    let (status, text) = match host {
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Some(host) if host.is_stopping() => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        Some(_) => (StatusCode::OK, "ok"),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// Memory and pools are the host's; sandboxes and runs are counted of the caller's tenant alone.
pub(super) async fn capacity(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
) -> Json<Capacity> {
    Json(host.capacity(Some(&caller.account)))
}

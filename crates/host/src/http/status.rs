//! `GET /v1/healthz` and `GET /v1/capacity`.

use std::sync::Arc;

use api::{ApiError, Capacity, ErrorCode};
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

use super::error::Failed;
use crate::auth::Tenant;
use crate::host::Host;

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

/// Rates and latencies are of all tenants together, so none of several sees them.
pub(super) async fn capacity(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
) -> Json<Capacity> {
    let recent = matches!(tenant, Tenant::Anyone).then(|| host.metrics().recent.show());
    Json(Capacity {
        recent,
        ..host.capacity()
    })
}

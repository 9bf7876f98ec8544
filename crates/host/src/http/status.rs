//! `GET /v1/healthz` and `GET /v1/capacity`.

use std::sync::Arc;

use api::Capacity;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

use super::error::only_get;
use crate::host::Host;
use crate::tenants::Caller;

/// The official client wants the bare text `ok`.
pub(super) fn healthz(method: &Method, host: Option<&Host>) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return only_get(method, "/v1/healthz");
    }
    let (status, text) = match host {
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Some(host) if host.is_stopping() => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        Some(_) => (StatusCode::OK, "ok"),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// Memory and pools are the host's; sandboxes and runs are counted of the caller's tenant alone. Rates and latencies are of
/// all tenants together, so none sees them where callers need keys.
pub(super) async fn capacity(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
) -> Json<Capacity> {
    let recent = host.auth().is_open().then(|| host.metrics().recent.show());
    Json(Capacity {
        recent,
        ..host.capacity(Some(&caller.account))
    })
}

//! `/v1/admin/…`: tenants, keys, usage and the audit log, for the operator alone.

mod keys;
mod ledger;
mod tenants;

use std::net::SocketAddr;

use api::{ApiError, ErrorCode};
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{delete, get, post};

use super::error::Failed;
use super::routes::Routes;
use crate::host::Host;

/// Paths that take the operator's token and nothing else.
pub(super) const PREFIX: &str = "/v1/admin";

/// Where an operator's call came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) SocketAddr);

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/v1/admin/tenants", get(tenants::list).post(tenants::create))
        .route(
            "/v1/admin/tenants/{name}",
            get(tenants::show).patch(tenants::set).delete(tenants::remove),
        )
        .route("/v1/admin/keys", get(keys::list).post(keys::create))
        .route("/v1/admin/keys/{key}", delete(keys::revoke))
        .route("/v1/admin/keys/{key}/rotate", post(keys::rotate))
        .route("/v1/admin/usage", get(ledger::usage))
        .route("/v1/admin/audit", get(ledger::audit))
        .route("/v1/admin/store", get(ledger::store))
        .route("/v1/admin/capacity", get(ledger::capacity))
}

pub(super) fn unauthorized(host: &Host) -> Failed {
    let error = ApiError::new(
        ErrorCode::InvalidOperatorToken,
        "this is for the operator, with Authorization: Bearer <operator token>",
    );
    Failed(error.hint(if host.auth().has_operator() {
        "`podflare up` keeps the token in the file operator.token of its state directory; API keys are not accepted here"
    } else {
        "this host was started without PODFLARE_OPERATOR_TOKEN, so nobody is let in here"
    }))
}

/// The part of the path after a prefix, up to the next slash.
fn named(request: &Request<Body>, prefix: &str) -> String {
    let rest = request.uri().path().strip_prefix(prefix).unwrap_or_default();
    rest.split('/').next().unwrap_or_default().to_owned()
}

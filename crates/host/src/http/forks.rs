//! `POST /v1/sandboxes/{id}/fork` and `POST /v1/sandboxes/{id}/merge_into/{winner}`.

use std::sync::Arc;

use api::{ForkRequest, Forked};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

use super::body;
use super::error::{Failed, no_sandbox};
use super::front::sandbox_id;
use super::patient::SERVER_TIMING;
use crate::auth::Tenant;
use crate::host::Host;
use crate::tenants::AuditNote;

pub(super) async fn fork(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let id = sandbox_id(&request);
    let (head, content) = request.into_parts();
    let wanted = ForkRequest::parse(&body::read(&head.headers, content).await?)?;
    let (children, marks) = host.fork(id?, tenant, wanted.n).await?;
    let ids: Vec<String> = children.iter().map(ToString::to_string).collect();
    let note = AuditNote {
        target: None,
        detail: Some(ids.join(" ")),
    };
    let timing = [(SERVER_TIMING, marks.header())];
    Ok((timing, Extension(note), Json(Forked { children })).into_response())
}

pub(super) async fn merge(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let loser = sandbox_id(&request)?;
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let winner = last.parse().map_err(|_| no_sandbox())?;
    let marks = host.merge(loser, winner, tenant)?;
    Ok(([(SERVER_TIMING, marks.header())], StatusCode::NO_CONTENT).into_response())
}

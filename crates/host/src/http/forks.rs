//! `POST /v1/sandboxes/{id}/fork` and `POST /v1/sandboxes/{id}/merge_into/{winner}`.

use std::sync::Arc;

use api::{ForkRequest, Forked};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::body;
use super::error::{Failed, no_sandbox};
use super::front::sandbox_id;
use crate::auth::Tenant;
use crate::host::Host;

pub(super) async fn fork(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<Forked>, Failed> {
    let id = sandbox_id(&request);
    let (head, content) = request.into_parts();
    let wanted = ForkRequest::parse(&body::read(&head.headers, content).await?)?;
    let children = host.fork(id?, tenant, wanted.n).await?;
    Ok(Json(Forked {
        children: children.iter().map(|child| child.id()).collect(),
    }))
}

pub(super) async fn merge(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    let loser = sandbox_id(&request)?;
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let winner = last.parse().map_err(|_| no_sandbox())?;
    host.merge(loser, winner, tenant)?;
    Ok(StatusCode::NO_CONTENT)
}

//! `/v1/admin/keys`, `/v1/admin/keys/{key}` and `/v1/admin/keys/{key}/rotate`.

use std::sync::Arc;
use std::time::Duration;

use api::{KeyInfo, KeyList, NewKey, NewKeyRequest, RotateRequest};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::{Extension, Json};

use super::{Remote, named};
use crate::host::Host;
use crate::http::body;
use crate::http::error::Failed;
use crate::tenants::DEFAULT_TENANT;

const PATH: &str = "/v1/admin/keys/";

pub(super) async fn list(State(host): State<Arc<Host>>) -> Json<KeyList> {
    Json(KeyList {
        keys: host.tenants().key_infos(),
    })
}

pub(super) async fn create(
    State(host): State<Arc<Host>>,
    Extension(Remote(remote)): Extension<Remote>,
    request: Request<Body>,
) -> Result<Json<NewKey>, Failed> {
    let (head, content) = request.into_parts();
    let wanted = NewKeyRequest::parse(&body::read(&head.headers, content).await?)?;
    let tenant = wanted.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
    let name = wanted.name.unwrap_or_else(|| "key".to_owned());
    let (key, made) = host.tenants().create_key(tenant, name, Some(remote)).await?;
    let info = made.describe();
    Ok(Json(NewKey { key, info }))
}

pub(super) async fn rotate(
    State(host): State<Arc<Host>>,
    Extension(Remote(remote)): Extension<Remote>,
    request: Request<Body>,
) -> Result<Json<NewKey>, Failed> {
    let id = named(&request, PATH);
    let (head, content) = request.into_parts();
    let wanted = RotateRequest::parse(&body::read(&head.headers, content).await?)?;
    let grace = Duration::from_secs(wanted.grace_seconds);
    let (key, made) = host.tenants().rotate_key(&id, grace, Some(remote)).await?;
    let info = made.describe();
    Ok(Json(NewKey { key, info }))
}

/// A second time says the same.
pub(super) async fn revoke(
    State(host): State<Arc<Host>>,
    Extension(Remote(remote)): Extension<Remote>,
    request: Request<Body>,
) -> Result<Json<KeyInfo>, Failed> {
    let id = named(&request, PATH);
    let key = host.tenants().revoke_key(&id, Some(remote)).await?;
    Ok(Json(key.describe()))
}

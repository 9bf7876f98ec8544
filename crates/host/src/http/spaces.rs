//! `POST /v1/sandboxes/{id}/freeze` and `/v1/spaces`.

use std::sync::Arc;

use api::{ApiError, ErrorCode, FreezeCause, FreezeRequest, ResumeRequest, SpaceInfo, SpaceList};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use pod_types::SpaceId;

use super::error::{Failed, no_sandbox};
use super::front::sandbox_id;
use super::sandboxes::created;
use super::{body, patient};
use crate::auth::Tenant;
use crate::host::Host;
use crate::tenants::AuditNote;

/// Answers when the space is on stable storage.
pub(super) async fn freeze(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let sandbox = host.find(sandbox_id(&request)?, tenant).ok_or_else(no_sandbox)?;
    let (head, content) = request.into_parts();
    let wanted = FreezeRequest::parse(&body::read(&head.headers, content).await?)?;
    let id = host.freeze_as(&sandbox, FreezeCause::Request, wanted).await?;
    let space = host.spaces().find(id, tenant).ok_or_else(no_space)?;
    let note = AuditNote {
        target: None,
        detail: Some(id.to_string()),
    };
    Ok((Extension(note), Json(space)).into_response())
}

pub(super) async fn list(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
) -> Json<SpaceList> {
    Json(SpaceList {
        spaces: host.spaces().list(tenant),
    })
}

pub(super) async fn show(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<SpaceInfo>, Failed> {
    let space = host.spaces().find(space_id(&request)?, tenant);
    space.map(Json).ok_or_else(no_space)
}

/// Anything that is gone, was never there or is not this tenant's is as deleted as it can be.
pub(super) async fn delete(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    let Ok(id) = space_id(&request) else {
        return Ok(StatusCode::NO_CONTENT);
    };
    if host.remove_space(id, tenant).await {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(super::space_errors::space_busy())
    }
}

pub(super) async fn resume(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let id = space_id(&request)?;
    let (head, content) = request.into_parts();
    let wanted = ResumeRequest::parse(&body::read(&head.headers, content).await?)?;
    let timing = host.config().timing;
    let resuming = async move {
        let (sandbox, marks) = host.resume(id, tenant, wanted, None).await?;
        Ok((created(&host, &sandbox), marks))
    };
    patient::answer(resuming, &timing).await
}

/// The space that a path under `/v1/spaces/` names.
pub(super) fn space_id(request: &Request<Body>) -> Result<SpaceId, Failed> {
    let rest = request.uri().path().strip_prefix("/v1/spaces/");
    let id = rest.and_then(|rest| rest.split('/').next()?.parse().ok());
    id.ok_or_else(no_space)
}

pub(super) fn no_space() -> Failed {
    Failed(ApiError::new(ErrorCode::SpaceNotFound, "space not found").hint(
        "a space is used up by resuming it, unless `keep` is true; GET /v1/spaces shows those there are",
    ))
}

//! `/v1/sandboxes/{id}/checkpoints`, and `POST /v1/sandboxes/{id}/rollback`.

use std::sync::Arc;

use api::{ApiError, CheckpointList, CheckpointRequest, ErrorCode, RollbackRequest};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use lifecycle::{BookmarkRefused, ForkRefused};
use pod_types::ErrorChain;

use super::body;
use super::error::{Failed, host_busy, no_capacity, no_sandbox, over_quota, stopping};
use super::front::sandbox_id;
use super::patient::SERVER_TIMING;
use crate::auth::Tenant;
use crate::host::{CheckpointError, Host};
use crate::tenants::AuditNote;

pub(super) async fn create(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let id = sandbox_id(&request);
    let (head, content) = request.into_parts();
    let wanted = CheckpointRequest::parse(&body::read(&head.headers, content).await?)?;
    let (checkpoint, marks) = host.checkpoint(id?, tenant, wanted).await?;
    let note = AuditNote {
        target: None,
        detail: Some(checkpoint.id.to_string()),
    };
    let timing = [(SERVER_TIMING, marks.header())];
    Ok((timing, Extension(note), Json(checkpoint.describe())).into_response())
}

pub(super) async fn list(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<CheckpointList>, Failed> {
    let checkpoints = host.checkpoints(sandbox_id(&request)?, tenant)?;
    Ok(Json(CheckpointList { checkpoints }))
}

/// Like a sandbox: what is gone is as deleted as it can be.
pub(super) async fn delete(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> StatusCode {
    let key = request.uri().path().rsplit('/').next().unwrap_or_default();
    if let Ok(id) = sandbox_id(&request) {
        host.delete_checkpoint(id, tenant, key);
    }
    StatusCode::NO_CONTENT
}

pub(super) async fn roll_back(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let id = sandbox_id(&request);
    let (head, content) = request.into_parts();
    let wanted = RollbackRequest::parse(&body::read(&head.headers, content).await?)?;
    let (done, marks) = host.roll_back(id?, tenant, wanted).await?;
    let note = AuditNote {
        target: None,
        detail: Some(done.checkpoint.id.to_string()),
    };
    let timing = [(SERVER_TIMING, marks.header())];
    Ok((timing, Extension(note), Json(done)).into_response())
}

impl From<CheckpointError> for Failed {
    fn from(error: CheckpointError) -> Self {
        let failed = |text: String| {
            ApiError::new(ErrorCode::CheckpointFailed, text)
                .hint("the sandbox itself is as it was; try again")
        };
        Self(match error {
            CheckpointError::Unknown => return no_sandbox(),
            CheckpointError::Stopping => return stopping(),
            CheckpointError::NoCheckpoint(names) if names.is_empty() => ApiError::new(
                ErrorCode::CheckpointNotFound,
                "checkpoint: the sandbox has no checkpoints",
            )
            .hint("POST …/checkpoints makes one"),
            CheckpointError::NoCheckpoint(names) => ApiError::new(
                ErrorCode::CheckpointNotFound,
                format!(
                    "checkpoint: there is none of that id or name; there are {}",
                    names.join(", ")
                ),
            ),
            CheckpointError::Refused(refused) => {
                let text = refused.to_string();
                match refused {
                    ForkRefused::Booting => ApiError::new(ErrorCode::SandboxNotReady, text),
                    ForkRefused::Freezing | ForkRefused::TooMany => {
                        ApiError::new(ErrorCode::StateConflict, text).retry_after(1)
                    }
                    ForkRefused::Failed { .. } => ApiError::new(ErrorCode::SandboxFailed, text)
                        .hint("a rollback to an earlier checkpoint saves it"),
                    ForkRefused::Ended { .. } => return no_sandbox(),
                }
            }
            CheckpointError::Bookmark(refused) => {
                let text = refused.to_string();
                match refused {
                    BookmarkRefused::TooMany { .. } => {
                        ApiError::new(ErrorCode::TooManyCheckpoints, text).hint("delete one first")
                    }
                    BookmarkRefused::NameTaken { .. } => {
                        ApiError::new(ErrorCode::StateConflict, format!("name: {text}"))
                            .hint("choose another name, or delete that one first")
                    }
                    BookmarkRefused::Closed => return no_sandbox(),
                }
            }
            CheckpointError::Lost(why) => ApiError::new(
                ErrorCode::CheckpointLost,
                format!("the checkpoint is lost: {why}"),
            )
            .hint("the sandbox itself is as it was; delete the checkpoint, or roll back to another"),
            CheckpointError::Overtaken => ApiError::new(
                ErrorCode::StateConflict,
                "the sandbox was rolled back or merged by somebody else meanwhile",
            ),
            CheckpointError::Quota(refused) => {
                over_quota(&refused).hint("a checkpoint counts as a sandbox; delete one of either")
            }
            CheckpointError::Turn(refused) => host_busy(refused),
            CheckpointError::NoRoom(no_room) => no_capacity(
                no_room,
                "delete a checkpoint or a sandbox; the sandbox itself is as it was",
            ),
            CheckpointError::NoId(error) => ApiError::new(ErrorCode::Internal, error.to_string()),
            CheckpointError::Record(error) => ApiError::new(
                ErrorCode::Internal,
                format!("the checkpoint was not written down, so it was not made: {error}"),
            ),
            CheckpointError::Clone(error) => failed(ErrorChain(&error).to_string()),
            CheckpointError::Raise(error) => {
                failed(format!("what was kept is of no use: {}", ErrorChain(&error)))
            }
            CheckpointError::Carry(error) => failed(format!(
                "it does not say whether the run that was in progress goes on: {}",
                ErrorChain(&error)
            )),
        })
    }
}

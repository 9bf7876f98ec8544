//! `GET /v1/sandboxes/{id}/diff/{other}`.

use std::sync::Arc;

use api::{ApiError, DiffRequest, ErrorCode};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use lifecycle::Phase;
use pod_types::{ErrorChain, SandboxId};

use super::error::{Failed, no_sandbox, sandbox_failed};
use super::front::sandbox_id;
use super::patient;
use crate::auth::Tenant;
use crate::diff;
use crate::host::{Host, Marks};
use crate::sandbox::Sandbox;

pub(super) async fn diff(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let wanted = DiffRequest::parse(request.uri().query().unwrap_or_default())?;
    let before = ready(&host, sandbox_id(&request)?, tenant)?;
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let after = ready(&host, last.parse().map_err(|_| no_sandbox())?, tenant)?;
    let timing = host.config().timing;
    let comparison = async move {
        let mut marks = Marks::begin();
        let _in_use = (before.in_use(), after.in_use());
        let found = diff::diff(&before, &after, &wanted).await.map_err(|error| {
            Failed(ApiError::new(
                ErrorCode::AgentFailed,
                ErrorChain(&error).to_string(),
            ))
        })?;
        marks.mark("compare");
        Ok((found, marks))
    };
    patient::answer(comparison, &timing).await
}

pub(super) fn ready(host: &Host, id: SandboxId, tenant: Tenant) -> Result<Arc<Sandbox>, Failed> {
    let sandbox = host.find(id, tenant).ok_or_else(no_sandbox)?;
    match sandbox.phase() {
        Phase::Ready => Ok(sandbox),
        Phase::Booting => {
            let error = ApiError::new(ErrorCode::SandboxNotReady, "the sandbox is still booting");
            Err(Failed(error))
        }
        Phase::Freezing => {
            let error = ApiError::new(ErrorCode::StateConflict, "the sandbox is being frozen");
            Err(Failed(error.retry_after(1)))
        }
        Phase::Failed { why } => Err(Failed(sandbox_failed(
            format!("the sandbox has failed: {why}"),
            &sandbox,
        ))),
        Phase::Ending { .. } | Phase::Gone { .. } => Err(no_sandbox()),
    }
}

//! What an id stood for that is a space now: said where the sandbox is not found.

use api::{ApiError, ErrorCode};
use axum::response::{IntoResponse as _, Response};
use pod_types::SandboxId;

use super::error::Failed;
use crate::auth::Tenant;
use crate::host::Host;

/// The sandbox that a request is about.
pub(super) fn asked_for(path: &str) -> Option<SandboxId> {
    let rest = path.strip_prefix("/v1/sandboxes/")?;
    rest.split('/').next()?.parse().ok()
}

/// Adds to a response that there is no such sandbox which space it is, if it is one.
pub(super) fn add(response: Response, host: &Host, sandbox: SandboxId, tenant: Tenant) -> Response {
    if response.extensions().get() != Some(&ErrorCode::SandboxNotFound) {
        return response;
    }
    let space = host.spaces().of_sandbox(sandbox, tenant);
    match space {
        None => response,
        Some(space) => Failed(
            ApiError::new(ErrorCode::SandboxNotFound, "sandbox not found").hint(format!(
                "it was frozen; POST /v1/spaces/{space}/resume goes on with it"
            )),
        )
        .into_response(),
    }
}

/// Requests that have something to do in the sandbox, and so wake it where its tenant or host is set so.
pub(super) fn wakes(path: &str) -> bool {
    let is_port = matches!(path.split('/').nth(4), Some("ports" | "tunnel"));
    is_port
        || ["/exec", "/pty", "/files", "/fork"]
            .iter()
            .any(|end| path.ends_with(end))
}

//! What a client is told who asks for a sandbox whose time has run out.
//!
//! The id is unknown, to every route in the same way: a 404 says more where it leaves, in this one place.

use api::{ApiError, ErrorCode};
use axum::http::Request;
use axum::response::{IntoResponse as _, Response};
use lifecycle::Expiry;
use pod_types::SandboxId;

use super::error::Failed;
use crate::auth::Tenant;
use crate::host::Host;

/// Whom a request is about: one sandbox, or two.
pub(super) struct Inquiry {
    ids: [Option<SandboxId>; 2],
}

impl Inquiry {
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let rest = request.uri().path().strip_prefix("/v1/sandboxes/")?;
        let mut ids = rest.split('/').filter_map(|part| part.parse().ok());
        let ids = [ids.next(), ids.next()];
        ids[0].is_some().then_some(Self { ids })
    }

    /// The response, or one that says what became of the sandbox.
    pub(super) fn answer(self, host: &Host, tenant: Tenant, response: Response) -> Response {
        if response.extensions().get() != Some(&ErrorCode::SandboxNotFound) {
            return response;
        }
        let mut fates = self.ids.iter().flatten().filter_map(|id| host.fate(*id, tenant));
        let Some((fate, ago_s)) = fates.next() else {
            return response;
        };
        let text = format!("sandbox not found: {fate}, and ended {ago_s} s ago");
        let hint = match fate.which {
            Expiry::Lifetime => {
                "ask for a longer timeout_seconds, or PATCH the sandbox before its time is over"
            }
            Expiry::Idle => "ask for a longer idle_timeout_seconds, or use the sandbox now and then",
        };
        Failed(ApiError::new(ErrorCode::SandboxNotFound, text).hint(hint)).into_response()
    }
}

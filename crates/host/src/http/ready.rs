//! The sandbox that a request is about, as something that can be used now.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use lifecycle::{Phase, RunRefused};

use super::error::{Failed, no_sandbox, run_refused, stopping};
use super::front::sandbox_id;
use crate::auth::Tenant;
use crate::host::Host;
use crate::sandbox::Sandbox;

pub(super) fn find(host: &Host, tenant: Tenant, request: &Request<Body>) -> Result<Arc<Sandbox>, Failed> {
    let found = host.find(sandbox_id(request)?, tenant);
    ready(host, found.ok_or_else(no_sandbox)?)
}

pub(super) fn ready(host: &Host, sandbox: Arc<Sandbox>) -> Result<Arc<Sandbox>, Failed> {
    if host.is_stopping() {
        return Err(stopping());
    }
    let refused = match sandbox.phase() {
        Phase::Ready => return Ok(sandbox),
        Phase::Booting => RunRefused::Booting,
        Phase::Freezing => RunRefused::Freezing,
        Phase::Failed { why } => RunRefused::Failed { why },
        Phase::Ending { reason } | Phase::Gone { reason } => RunRefused::Ended { reason },
    };
    Err(run_refused(refused, &sandbox))
}

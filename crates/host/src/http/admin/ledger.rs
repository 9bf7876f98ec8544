//! `/v1/admin/usage`, `/v1/admin/audit`, `/v1/admin/store` and `/v1/admin/capacity`.

use std::sync::Arc;

use api::{AuditPage, AuditQuery, Capacity, StoreReport, UsageList, UsageQuery};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};

use crate::host::Host;
use crate::http::error::Failed;

pub(super) async fn usage(
    State(host): State<Arc<Host>>,
    request: Request<Body>,
) -> Result<Json<UsageList>, Failed> {
    let query = UsageQuery::parse(request.uri().query().unwrap_or_default())?;
    let tenants = host.tenants().usage(None, query.days).await?;
    Ok(Json(UsageList { tenants }))
}

pub(super) async fn audit(
    State(host): State<Arc<Host>>,
    request: Request<Body>,
) -> Result<Json<AuditPage>, Failed> {
    let query = AuditQuery::parse(request.uri().query().unwrap_or_default())?;
    Ok(Json(host.tenants().audit_page(query).await?))
}

/// A look at the whole database, for `podflare doctor`.
pub(super) async fn store(State(host): State<Arc<Host>>) -> Result<Json<StoreReport>, Failed> {
    let report = host.tenants().check().await?;
    Ok(Json(StoreReport {
        ok: report.problems.is_empty(),
        problems: report.problems,
        bytes: report.bytes,
    }))
}

/// Sandboxes and runs of all tenants.
pub(super) async fn capacity(State(host): State<Arc<Host>>) -> Json<Capacity> {
    Json(Capacity {
        recent: Some(host.metrics().recent.show()),
        headroom: host.headroom().await,
        vms_unlimited: host.vms_unlimited(),
        ..host.capacity(None)
    })
}

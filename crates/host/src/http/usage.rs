//! `GET /v1/usage`: what the caller's tenant has used.

use std::sync::Arc;

use api::{UsageQuery, UsageReport};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::{Extension, Json};

use super::error::Failed;
use crate::host::Host;
use crate::tenants::Caller;

pub(super) async fn own(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Json<UsageReport>, Failed> {
    let query = UsageQuery::parse(request.uri().query().unwrap_or_default())?;
    let tenant = caller.account.tenant();
    let mut reports = host.tenants().usage(Some(tenant), query.days).await?;
    Ok(Json(reports.pop().unwrap_or_else(|| UsageReport {
        tenant: caller.account.name().to_owned(),
        ..UsageReport::default()
    })))
}

//! `/v1/admin/tenants` and `/v1/admin/tenants/{name}`.

use std::sync::Arc;

use api::{NewTenantRequest, SetTenantRequest, TenantInfo, TenantList};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::{Remote, named};
use crate::host::Host;
use crate::http::body;
use crate::http::error::Failed;

const PATH: &str = "/v1/admin/tenants/";

pub(super) async fn list(State(host): State<Arc<Host>>) -> Json<TenantList> {
    let tenants = host.tenants();
    let all = tenants.accounts();
    Json(TenantList {
        tenants: all.iter().map(|account| tenants.describe(account)).collect(),
    })
}

pub(super) async fn create(
    State(host): State<Arc<Host>>,
    Extension(Remote(remote)): Extension<Remote>,
    request: Request<Body>,
) -> Result<Json<TenantInfo>, Failed> {
    let (head, content) = request.into_parts();
    let wanted = NewTenantRequest::parse(&body::read(&head.headers, content).await?)?;
    let tenants = host.tenants();
    let created = tenants
        .create_tenant(wanted.name, wanted.tier, wanted.limits, wanted.wake, Some(remote))
        .await?;
    Ok(Json(tenants.describe(&created)))
}

pub(super) async fn show(
    State(host): State<Arc<Host>>,
    request: Request<Body>,
) -> Result<Json<TenantInfo>, Failed> {
    let account = host.tenants().named(&named(&request, PATH))?;
    Ok(Json(host.tenants().describe(&account)))
}

pub(super) async fn set(
    State(host): State<Arc<Host>>,
    Extension(Remote(remote)): Extension<Remote>,
    request: Request<Body>,
) -> Result<Json<TenantInfo>, Failed> {
    let name = named(&request, PATH);
    let (head, content) = request.into_parts();
    let wanted = SetTenantRequest::parse(&body::read(&head.headers, content).await?)?;
    let tenants = host.tenants();
    let changed = tenants
        .set_tenant(&name, wanted.tier, wanted.limits, wanted.wake, Some(remote))
        .await?;
    Ok(Json(tenants.describe(&changed)))
}

/// With `?force=true` its sandboxes are deleted first.
pub(super) async fn remove(
    State(host): State<Arc<Host>>,
    Extension(Remote(remote)): Extension<Remote>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    let account = host.tenants().named(&named(&request, PATH))?;
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|pair| pair == "force=true") {
        host.delete_all(account.tenant()).await;
    }
    host.tenants().remove_tenant(&account, Some(remote)).await?;
    host.webhooks().forget(account.tenant());
    Ok(StatusCode::NO_CONTENT)
}

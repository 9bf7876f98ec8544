//! `/v1/sandboxes`, `/v1/sandboxes/{id}` and `/v1/sandboxes/{id}/console`.

use std::io;
use std::sync::Arc;

use api::{
    ApiError, ChangeRequest, CreateRequest, CreatedSandbox, ErrorCode, SandboxInfo, SandboxList, SandboxState,
};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

use super::error::{Failed, no_sandbox};
use super::front::sandbox_id;
use super::{body, egress, patient};
use crate::auth::Tenant;
use crate::host::Host;
use crate::sandbox::Sandbox;
use crate::tenants::{Action, AuditNote, Caller};

pub(super) async fn create(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let (head, content) = request.into_parts();
    let wanted = CreateRequest::parse(&body::read(&head.headers, content).await?)?;
    let timing = host.config().timing;
    let creation = async move {
        let outcome = host
            .create(wanted, caller.account.tenant())
            .await
            .map_err(Failed::from);
        // Here and not where the request is answered: its answer may begin before the outcome is known.
        let (target, result) = match &outcome {
            Ok((sandbox, _)) => (Some(sandbox.id().to_string()), None),
            Err(Failed(error)) => (None, Some(error.code)),
        };
        let note = AuditNote { target, detail: None };
        host.tenants()
            .audit()
            .note(&caller, Action::Create, note, super::audit::result(result));
        let (sandbox, marks) = outcome?;
        Ok((created(&host, &sandbox), marks))
    };
    patient::answer(creation, &timing).await
}

pub(super) async fn list(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<SandboxList>, Failed> {
    let usage = SandboxList::wants_usage(request.uri().query().unwrap_or_default())?;
    let sandboxes = if usage {
        host.list_with_usage(tenant).await
    } else {
        host.list(tenant)
    };
    Ok(Json(SandboxList { sandboxes }))
}

pub(super) async fn show(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<SandboxInfo>, Failed> {
    let sandbox = host.find(sandbox_id(&request)?, tenant).ok_or_else(no_sandbox)?;
    let mut info = host.describe(&sandbox);
    if info.state == SandboxState::Ready {
        let (stats, network) = tokio::join!(sandbox.stats(), host.network_of(&sandbox));
        (info.stats, info.network) = (stats, network);
    }
    Ok(Json(info))
}

pub(super) async fn change(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let id = sandbox_id(&request);
    let (head, content) = request.into_parts();
    let wanted = ChangeRequest::parse(&body::read(&head.headers, content).await?)?;
    let sandbox = host.change(id?, tenant, &wanted).await?;
    let info = host.describe(&sandbox);
    let seconds = |limit: Option<u64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
    let (life, idle) = (seconds(info.timeout_seconds), seconds(info.idle_timeout_seconds));
    let detail = format!("timeout {life}, idle {idle}, persistent {}", info.persistent);
    let reach = wanted.egress.as_ref().map(egress::summary);
    let detail = reach.map_or_else(|| detail.clone(), |reach| format!("{detail}, egress {reach}"));
    let note = AuditNote {
        target: None,
        detail: Some(detail),
    };
    Ok((Extension(note), Json(info)).into_response())
}

/// Anything that is gone, was never there or is not this tenant's is as deleted as it can be.
pub(super) async fn delete(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> StatusCode {
    if let Ok(id) = sandbox_id(&request) {
        host.delete(id, tenant).await;
    }
    StatusCode::NO_CONTENT
}

/// The guest's console as the VM process has kept it.
pub(super) async fn console(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let sandbox = host.find(sandbox_id(&request)?, tenant).ok_or_else(no_sandbox)?;
    let bytes = match tokio::fs::read(sandbox.files.console()).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Ok(bytes) => bytes,
        Err(error) => {
            let text = format!("cannot read the console: {error}");
            return Err(Failed(ApiError::new(ErrorCode::Internal, text)));
        }
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text).into_response())
}

pub(super) fn created(host: &Host, sandbox: &Sandbox) -> CreatedSandbox {
    let spec = &sandbox.spec;
    let title = sandbox.title();
    CreatedSandbox {
        id: title.id,
        state: SandboxState::Ready,
        template: spec.template.name.clone(),
        ram_mib: spec.ram_mib,
        rootfs_gb: spec.rootfs_gb,
        vcpus: spec.vcpus,
        timeout_seconds: title.terms.timeout_seconds,
        idle_timeout_seconds: title.terms.idle_timeout_seconds,
        created_at_ms: title.terms.created_at_ms,
        region: host.config().region.clone(),
        endpoint: host.config().endpoint.clone(),
    }
}

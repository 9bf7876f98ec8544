//! `/v1/webhooks…`.

use std::sync::Arc;
use std::time::Duration;

use api::{
    ApiError, DeliveriesQuery, DeliveryInfo, DeliveryList, ErrorCode, NewWebhook, RotateRequest,
    WebhookChange, WebhookInfo, WebhookList, WebhookRequest,
};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json};

use super::body;
use super::error::Failed;
use super::routes::Routes;
use crate::auth::Tenant;
use crate::host::Host;
use crate::tenants::AuditNote;
use crate::webhooks::HookError;

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/v1/webhooks", post(create).get(list))
        .route("/v1/webhooks/{webhook}", get(show).patch(set).delete(remove))
        .route("/v1/webhooks/{webhook}/rotate", post(rotate))
        .route("/v1/webhooks/{webhook}/test", post(test))
        .route("/v1/webhooks/{webhook}/deliveries", get(deliveries))
        .route(
            "/v1/webhooks/{webhook}/deliveries/{delivery}/replay",
            post(replay),
        )
}

async fn create(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let (head, content) = request.into_parts();
    let wanted = WebhookRequest::parse(&body::read(&head.headers, content).await?)?;
    let (hook, secret) = host.webhooks().create(tenant, wanted).await?;
    let info = hook.describe();
    let note = AuditNote {
        target: Some(info.id.clone()),
        detail: None,
    };
    Ok((Extension(note), Json(NewWebhook { secret, info })).into_response())
}

async fn list(State(host): State<Arc<Host>>, Extension(tenant): Extension<Tenant>) -> Json<WebhookList> {
    let hooks = host.webhooks().list(tenant);
    Json(WebhookList {
        webhooks: hooks.iter().map(|hook| hook.describe()).collect(),
    })
}

async fn show(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<WebhookInfo>, Failed> {
    let hook = host.webhooks().find(tenant, &named(&request, 0))?;
    Ok(Json(hook.describe()))
}

async fn set(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<WebhookInfo>, Failed> {
    let id = named(&request, 0);
    let (head, content) = request.into_parts();
    let change = WebhookChange::parse(&body::read(&head.headers, content).await?)?;
    let hook = host.webhooks().set(tenant, &id, change).await?;
    Ok(Json(hook.describe()))
}

async fn remove(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    host.webhooks().delete(tenant, &named(&request, 0)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<NewWebhook>, Failed> {
    let id = named(&request, 0);
    let (head, content) = request.into_parts();
    let wanted = RotateRequest::parse(&body::read(&head.headers, content).await?)?;
    let grace = Duration::from_secs(wanted.grace_seconds);
    let (hook, secret) = host.webhooks().rotate(tenant, &id, grace).await?;
    let info = hook.describe();
    Ok(Json(NewWebhook { secret, info }))
}

async fn test(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<DeliveryInfo>, Failed> {
    let delivery = host.webhooks().test(tenant, &named(&request, 0)).await?;
    Ok(Json(delivery))
}

async fn deliveries(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<DeliveryList>, Failed> {
    let query = DeliveriesQuery::parse(request.uri().query().unwrap_or_default())?;
    let id = named(&request, 0);
    Ok(Json(host.webhooks().deliveries(tenant, &id, query).await?))
}

async fn replay(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<DeliveryInfo>, Failed> {
    let (id, delivery) = (named(&request, 0), named(&request, 2));
    Ok(Json(host.webhooks().replay(tenant, &id, &delivery).await?))
}

/// A part of the path after `/v1/webhooks/`.
fn named(request: &Request<Body>, part: usize) -> String {
    let rest = request.uri().path().strip_prefix("/v1/webhooks/");
    let found = rest.unwrap_or_default().split('/').nth(part);
    found.unwrap_or_default().to_owned()
}

impl From<HookError> for Failed {
    fn from(error: HookError) -> Self {
        let text = error.to_string();
        Self(match error {
            HookError::Unknown => ApiError::new(ErrorCode::WebhookNotFound, text),
            HookError::UnknownDelivery => ApiError::new(ErrorCode::DeliveryNotFound, text)
                .hint("the log keeps the last 1000 deliveries of a webhook, for 14 days"),
            HookError::Url(_) => ApiError::new(ErrorCode::InvalidField, text),
            HookError::TooMany | HookError::HostFull => {
                ApiError::new(ErrorCode::TooManyWebhooks, text).hint("delete one that is not needed any more")
            }
            HookError::Disabled => ApiError::new(ErrorCode::StateConflict, text)
                .hint("enable it first: PATCH {\"enabled\": true}"),
            HookError::NoRandomness(_) => ApiError::new(ErrorCode::Internal, text),
            HookError::Store(error) => return error.into(),
        })
    }
}

//! `GET /v1/sandboxes/{id}/files/watch`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};

use super::super::error::Failed;
use super::super::exec::STREAM_HEADERS;
use super::{parse, refusal};
use crate::auth::Tenant;
use crate::files::Watching;
use crate::host::Host;

pub(super) async fn watch(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let (sandbox, query) = parse(&host, tenant, &request)?;
    let heartbeat = host.config().timing.heartbeat;
    let recursive = query.recursive.unwrap_or(false);
    let watching = Watching::begin(&sandbox, query.path, recursive, heartbeat).await;
    let watching = watching.map_err(|error| refusal::failed(error, &sandbox))?;
    Ok((STREAM_HEADERS, Body::new(watching)).into_response())
}

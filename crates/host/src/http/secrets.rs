//! `/v1/secrets` and `/v1/secrets/{secret}`.

use std::sync::Arc;

use api::{ApiError, ErrorCode, SecretInfo, SecretList, SecretRequest};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Extension, Json};

use super::body;
use super::error::Failed;
use super::routes::Routes;
use crate::auth::Tenant;
use crate::host::{ChangeSecretError, Host};
use crate::secrets::SecretError;

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/v1/secrets", get(list))
        .route("/v1/secrets/{secret}", put(set).delete(revoke))
}

async fn list(State(host): State<Arc<Host>>, Extension(tenant): Extension<Tenant>) -> Json<SecretList> {
    Json(SecretList {
        secrets: host.secrets().list(tenant),
    })
}

async fn set(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<SecretInfo>, Failed> {
    let name = named(&request);
    let (head, content) = request.into_parts();
    let name = SecretInfo::parse_name(&name)?;
    let wanted = SecretRequest::parse(&body::read(&head.headers, content).await?)?;
    Ok(Json(host.put_secret(tenant, name, wanted).await?))
}

/// One that is gone, or never was, is as revoked as it can be.
async fn revoke(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    host.revoke_secret(tenant, &named(&request)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(request: &Request<Body>) -> String {
    let rest = request.uri().path().strip_prefix("/v1/secrets/");
    rest.unwrap_or_default().to_owned()
}

impl From<ChangeSecretError> for Failed {
    fn from(error: ChangeSecretError) -> Self {
        let text = error.to_string();
        Self(match error {
            ChangeSecretError::NotInForce | ChangeSecretError::NoAuthority => {
                ApiError::new(ErrorCode::NetworkUnavailable, text).retry_after(2)
            }
            ChangeSecretError::Refused(SecretError::TooMany) => {
                ApiError::new(ErrorCode::TooManySecrets, text).hint("delete one that is not needed any more")
            }
            ChangeSecretError::Refused(SecretError::Seal(_)) => ApiError::new(ErrorCode::Internal, text),
            ChangeSecretError::Refused(SecretError::Store(error)) => return error.into(),
        })
    }
}

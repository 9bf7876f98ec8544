//! `GET /metrics`: for whoever runs this host, and not for its tenants.
//!
//! The figures are those of all tenants together. So where calls need a key, a tenant's does not open this: it takes the
//! operator's token, the key that the operator has set for it, or the address of its own that only the operator reaches. Where nobody is asked
//! for a key there is one tenant, and it may look.

use std::sync::Arc;

use api::{ApiError, ErrorCode};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::error::{Failed, only_get};
use crate::auth::Auth;
use crate::host::Host;
use crate::metrics::{CONTENT_TYPE, ProcessState};

pub(super) const PATH: &str = "/metrics";

/// Who may read, beside the operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readers {
    /// SHA-256 of the key that opens this and nothing else.
    key: Option<[u8; 32]>,
}

impl Readers {
    pub(super) fn of(key: Option<&str>) -> Self {
        Self {
            key: key.map(|key| Sha256::digest(key).into()),
        }
    }

    pub(super) fn admit(self, authorization: Option<&[u8]>, host: Option<&Arc<Host>>) -> Result<(), Failed> {
        let auth = host.map(|host| host.auth());
        if auth.is_some_and(|auth| auth.is_operator(authorization)) {
            return Ok(());
        }
        let Some(wanted) = self.key else {
            return if auth.is_none_or(Auth::is_open) {
                Ok(())
            } else {
                Err(Failed(
                    ApiError::new(ErrorCode::InvalidKey, "metrics are not open to API keys").hint(
                        "use the operator's token, or set PODFLARE_METRICS_KEY or --metrics-addr for whoever runs this host",
                    ),
                ))
            };
        };
        let missing = || {
            ApiError::new(ErrorCode::MissingKey, "missing Authorization: Bearer <key>")
                .hint("the key is PODFLARE_METRICS_KEY of the host")
        };
        let given = authorization.ok_or_else(missing)?;
        let key = given.strip_prefix(b"Bearer ").ok_or_else(missing)?;
        let digest: [u8; 32] = Sha256::digest(key.trim_ascii()).into();
        if bool::from(digest.ct_eq(&wanted)) {
            Ok(())
        } else {
            Err(Failed(ApiError::new(
                ErrorCode::InvalidKey,
                "invalid metrics key",
            )))
        }
    }
}

pub(super) async fn answer(method: &Method, host: Option<&Arc<Host>>) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return only_get(method, PATH);
    }
    let Some(host) = host else {
        let error = ApiError::new(ErrorCode::ShuttingDown, "the host is starting").retry_after(1);
        return Failed(error).into_response();
    };
    let process = tokio::task::spawn_blocking(ProcessState::read).await;
    let text = host.metrics().render(&host.state(), &process.unwrap_or_default());
    let headers = [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

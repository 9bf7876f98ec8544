//! `/v1/sandboxes/{id}/files` and `…/files/watch`.
//!
//! `GET` and `HEAD` read, `PUT` writes, `POST` makes a directory, `DELETE` removes. Bodies are streamed: what is in memory
//! at a time is a piece of a file, however large the file is.

mod change;
mod conditions;
mod get;
mod put;
mod range;
mod refusal;
mod watch;

use std::sync::Arc;

use agent_proto::files::FILE_PATH_MAX;
use api::{ApiError, ErrorCode, FilesQuery};
use axum::body::Body;
use axum::extract::Request;
use axum::routing::{MethodRouter, get as on_get};

use super::diff::ready;
use super::error::Failed;
use super::front::sandbox_id;
use crate::auth::Tenant;
use crate::host::Host;
use crate::sandbox::Sandbox;

pub(super) fn routes() -> MethodRouter<Arc<Host>> {
    on_get(get::get)
        .head(get::head)
        .put(put::put)
        .post(change::make_directory)
        .delete(change::remove)
}

pub(super) fn watch_route() -> MethodRouter<Arc<Host>> {
    on_get(watch::watch)
}

/// The sandbox and the query, before anything is asked of a guest.
fn parse(host: &Host, tenant: Tenant, request: &Request<Body>) -> Result<(Arc<Sandbox>, FilesQuery), Failed> {
    let id = sandbox_id(request)?;
    let query = FilesQuery::parse(request.uri().query().unwrap_or_default())?;
    if query.path.len() >= FILE_PATH_MAX {
        let text = format!(
            "path: longer than the {} bytes that Linux allows",
            FILE_PATH_MAX - 1
        );
        return Err(Failed(ApiError::new(ErrorCode::NameTooLong, text)));
    }
    Ok((ready(host, id, tenant)?, query))
}

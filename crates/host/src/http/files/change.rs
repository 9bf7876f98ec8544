//! `DELETE` removes, `POST` makes a directory.

use std::sync::Arc;

use agent_proto::Reply;
use agent_proto::files::{FileReply, FileRequest};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

use super::super::error::Failed;
use super::{parse, refusal};
use crate::auth::Tenant;
use crate::files::{Conversation, FilesError, file_info};
use crate::host::Host;

pub(super) async fn remove(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<StatusCode, Failed> {
    let (sandbox, query) = parse(&host, tenant, &request)?;
    let removal = FileRequest::Remove {
        path: query.path,
        recursive: query.recursive.unwrap_or(false),
    };
    let removed = async {
        let mut conversation = Conversation::begin(&sandbox, removal).await?;
        match conversation.outcome().await? {
            Reply::Done => conversation.release(),
            _ => return Err(FilesError::Unexpected),
        }
        Ok(StatusCode::NO_CONTENT)
    };
    removed.await.map_err(|error| refusal::failed(error, &sandbox))
}

/// One that is there already is as made as it can be.
pub(super) async fn make_directory(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let (sandbox, query) = parse(&host, tenant, &request)?;
    let make = FileRequest::MakeDirectory {
        path: query.path.clone(),
        mode: query.mode,
        parents: query.mkdirs,
    };
    let made = async {
        let mut conversation = Conversation::begin(&sandbox, make).await?;
        let Reply::File(FileReply::Stat(stat)) = conversation.reply().await? else {
            return Err(FilesError::Unexpected);
        };
        conversation.release();
        Ok(Json(file_info(&query.path, &stat)).into_response())
    };
    made.await.map_err(|error| refusal::failed(error, &sandbox))
}

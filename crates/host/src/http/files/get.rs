//! `GET` and `HEAD`: content, listings, archives.

use std::sync::Arc;

use agent_proto::files::{
    FileProblem, FileReply, FileRequest, FileStat, ListDirectory, Opened, Range, ReadFile,
};
use agent_proto::{EntryKind, Reply};
use api::{ApiError, ErrorCode, FilesQuery, KIND_HEADER, MODE_HEADER};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

use super::super::error::Failed;
use super::conditions::{Verdict, judge, last_modified, range_applies, tag};
use super::{parse, range, refusal};
use crate::auth::Tenant;
use crate::files::{Conversation, Download, FilesError, file_info, list};
use crate::host::Host;
use crate::sandbox::Sandbox;

pub(super) async fn get(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let (sandbox, query) = parse(&host, tenant, &request)?;
    if query.recursive == Some(true) && !query.tar {
        let text = "recursive: a whole tree is sent as an archive, expected format=tar with it";
        return Err(Failed(ApiError::new(ErrorCode::InvalidField, text)));
    }
    let answered = if query.tar {
        archive(&sandbox, query).await
    } else if query.stat {
        about(&sandbox, query).await
    } else {
        content(&sandbox, query, request.headers()).await
    };
    answered.map_err(|error| refusal::failed(error, &sandbox))
}

/// What `GET` would say, without reading the file.
pub(super) async fn head(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let (sandbox, query) = parse(&host, tenant, &request)?;
    // Nothing of it: the agent says how it would send the whole.
    let read = FileRequest::Read(ReadFile {
        path: query.path,
        range: Range::Last(0),
    });
    let opened = match Download::begin(&sandbox, read).await {
        Ok((opened, _)) => opened,
        Err(error) if is_directory(&error) => return Ok((directory_headers(), Body::empty()).into_response()),
        Err(error) => return Err(refusal::failed(error, &sandbox)),
    };
    let length = opened.length.map(|_| opened.stat.size);
    let headers = file_headers(&opened.stat, length);
    Ok(match judge(request.headers(), &opened.stat) {
        Verdict::Send => (headers, Body::empty()).into_response(),
        other => unsent(other, headers),
    })
}

async fn content(
    sandbox: &Arc<Sandbox>,
    query: FilesQuery,
    headers: &HeaderMap,
) -> Result<Response, FilesError> {
    let wanted = headers
        .get(header::RANGE)
        .and_then(|value| range::parse(value.as_bytes()));
    let read = |range| {
        let path = query.path.clone();
        Download::begin(sandbox, FileRequest::Read(ReadFile { path, range }))
    };
    let (mut opened, mut download) = match read(wanted.unwrap_or(Range::All)).await {
        Err(error) if is_directory(&error) => return listing(sandbox, query).await,
        begun => begun?,
    };
    let verdict = judge(headers, &opened.stat);
    if verdict != Verdict::Send {
        return Ok(unsent(verdict, file_headers(&opened.stat, None)));
    }
    let mut partial = wanted.is_some() && opened.length.is_some();
    if partial && !range_applies(headers, &opened.stat) {
        (opened, download) = read(Range::All).await?;
        partial = false;
    }
    let Opened { stat, offset, length } = opened;
    let mut headers = file_headers(&stat, length);
    let status = match (partial, length) {
        (true, Some(0)) => {
            headers.remove(header::CONTENT_LENGTH);
            let all = format!("bytes */{}", stat.size);
            set(&mut headers, header::CONTENT_RANGE, &all);
            let text = format!("Range: the file has {} bytes", stat.size);
            let mut refused = Failed(ApiError::new(ErrorCode::RangeNotSatisfiable, text)).into_response();
            for name in [
                header::CONTENT_RANGE,
                header::ETAG,
                header::LAST_MODIFIED,
                header::ACCEPT_RANGES,
            ] {
                if let Some(value) = headers.remove(&name) {
                    refused.headers_mut().insert(name, value);
                }
            }
            return Ok(refused);
        }
        (true, Some(length)) => {
            let last = offset.saturating_add(length) - 1;
            set(
                &mut headers,
                header::CONTENT_RANGE,
                &format!("bytes {offset}-{last}/{}", stat.size),
            );
            StatusCode::PARTIAL_CONTENT
        }
        _ => StatusCode::OK,
    };
    Ok((status, headers, Body::new(download)).into_response())
}

async fn listing(sandbox: &Arc<Sandbox>, query: FilesQuery) -> Result<Response, FilesError> {
    let wanted = ListDirectory {
        path: query.path,
        after: query.after,
        limit: query.limit,
    };
    let listing = list(sandbox, wanted).await?;
    Ok((directory_headers(), Json(listing)).into_response())
}

async fn about(sandbox: &Arc<Sandbox>, query: FilesQuery) -> Result<Response, FilesError> {
    let path = query.path.clone();
    let follow = query.follow;
    let stat = FileRequest::Stat { path, follow };
    let mut conversation = Conversation::begin(sandbox, stat).await?;
    let Reply::File(FileReply::Stat(stat)) = conversation.reply().await? else {
        return Err(FilesError::Unexpected);
    };
    conversation.release();
    Ok(Json(file_info(&query.path, &stat)).into_response())
}

async fn archive(sandbox: &Arc<Sandbox>, query: FilesQuery) -> Result<Response, FilesError> {
    let (opened, download) = Download::begin(sandbox, FileRequest::Pack { path: query.path }).await?;
    let mut headers = HeaderMap::new();
    set(&mut headers, header::CONTENT_TYPE, "application/x-tar");
    set(&mut headers, header::CACHE_CONTROL, "no-store");
    set(
        &mut headers,
        HeaderName::from_static(KIND_HEADER),
        kind_name(opened.stat.kind),
    );
    Ok((headers, Body::new(download)).into_response())
}

fn is_directory(error: &FilesError) -> bool {
    matches!(error, FilesError::Refused(refusal) if refusal.problem == FileProblem::IsDirectory)
}

fn unsent(verdict: Verdict, headers: HeaderMap) -> Response {
    if verdict == Verdict::NotModified {
        let mut headers = headers;
        headers.remove(header::CONTENT_LENGTH);
        return (StatusCode::NOT_MODIFIED, headers, Body::empty()).into_response();
    }
    let text = "the file is not the version that the request's conditions name";
    Failed(ApiError::new(ErrorCode::PreconditionFailed, text)).into_response()
}

fn file_headers(stat: &FileStat, length: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    set(&mut headers, header::CONTENT_TYPE, "application/octet-stream");
    // A page of somebody else's making is not to run as one of this origin's.
    set(&mut headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut headers, header::CACHE_CONTROL, "no-cache");
    set(&mut headers, header::ETAG, &tag(stat));
    set(&mut headers, header::LAST_MODIFIED, &last_modified(stat));
    set(
        &mut headers,
        HeaderName::from_static(KIND_HEADER),
        kind_name(stat.kind),
    );
    let mode = format!("{:04o}", stat.mode & 0o7777);
    set(&mut headers, HeaderName::from_static(MODE_HEADER), &mode);
    if let Some(length) = length {
        set(&mut headers, header::ACCEPT_RANGES, "bytes");
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    headers
}

fn directory_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    set(&mut headers, header::CONTENT_TYPE, "application/json");
    set(&mut headers, header::CACHE_CONTROL, "no-store");
    set(&mut headers, HeaderName::from_static(KIND_HEADER), "directory");
    headers
}

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Other => "other",
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

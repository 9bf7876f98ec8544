//! `PUT`: a file's content, or a tree's as a tar archive.
//!
//! The guest is asked first, and only when it can be written the body is read: what cannot be is refused before a client
//! with `Expect: 100-continue` has sent anything.

use std::pin::Pin;
use std::sync::Arc;

use agent_proto::files::{FileRequest, WriteFile};
use api::{FilesQuery, UnpackedArchive};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};

use super::super::body;
use super::super::error::Failed;
use super::conditions::{expected, tag};
use super::{parse, refusal};
use crate::auth::Tenant;
use crate::files::{FilesError, Upload, UploadError, Uploaded, file_info};
use crate::host::Host;
use crate::sandbox::Sandbox;

pub(super) async fn put(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let asked = parse(&host, tenant, &request)
        .and_then(|(sandbox, query)| Ok((sandbox, asked(&query, request.headers())?, query)));
    let (head, content) = request.into_parts();
    let mut content = Pin::new(Box::new(content));
    let mut begun = false;
    let stored = match asked {
        Ok((sandbox, request, query)) => store(&sandbox, request, &mut content, &mut begun)
            .await
            .map(|uploaded| answer(&query, uploaded)),
        Err(refused) => Err(refused),
    };
    let waits_for_leave = head.headers.contains_key(header::EXPECT) && !begun;
    if stored.is_err() && !waits_for_leave {
        // A client that sends first and reads later still gets the answer, and one that waits for it gets it now.
        tokio::spawn(async move { body::drain(&mut content).await });
    }
    stored
}

fn asked(query: &FilesQuery, headers: &HeaderMap) -> Result<FileRequest, Failed> {
    let path = query.path.clone();
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(header::HeaderValue::as_bytes);
    let is_archive = content_type.is_some_and(|of| {
        let of = of.split(|byte| *byte == b';').next().unwrap_or_default();
        of.trim_ascii().eq_ignore_ascii_case(b"application/x-tar")
    });
    if query.tar || is_archive {
        return Ok(FileRequest::Unpack { path });
    }
    let length = headers.get(header::CONTENT_LENGTH);
    Ok(FileRequest::Write(WriteFile {
        path,
        mode: query.mode,
        parents: query.mkdirs,
        sync: query.sync,
        expected: expected(headers)?,
        length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
    }))
}

async fn store(
    sandbox: &Arc<Sandbox>,
    request: FileRequest,
    content: &mut Pin<Box<Body>>,
    begun: &mut bool,
) -> Result<Uploaded, Failed> {
    let failed = |error: FilesError| refusal::failed(error, sandbox);
    let mut upload = Upload::begin(sandbox, request).await.map_err(failed)?;
    *begun = true;
    loop {
        match upload.next(body::next(content)).await {
            Ok(Some(piece)) => upload.send(&piece).await.map_err(failed)?,
            Ok(None) => return upload.commit().await.map_err(failed),
            Err(UploadError::Client(error)) => return Err(Failed(error)),
            Err(UploadError::Guest(error)) => return Err(failed(error)),
        }
    }
}

fn answer(query: &FilesQuery, uploaded: Uploaded) -> Response {
    match uploaded {
        Uploaded::File(stat) => {
            let tag = [(header::ETAG, tag(&stat))];
            (tag, Json(file_info(&query.path, &stat))).into_response()
        }
        Uploaded::Archive { entries, bytes } => Json(UnpackedArchive { entries, bytes }).into_response(),
    }
}

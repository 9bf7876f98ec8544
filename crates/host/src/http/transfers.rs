//! `GET /v1/spaces/{id}/export` and `POST /v1/spaces/import`.
//!
//! Files are packed and unpacked by a thread of their own, a piece at a time, as fast as the client takes or sends them.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;

use api::{ApiError, SPACE_MEDIA_TYPE, SpaceInfo};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::mpsc;

use super::body;
use super::error::Failed;
use super::spaces::space_id;
use crate::auth::Tenant;
use crate::host::{Host, PIECES};
use crate::metrics::Metrics;
use crate::tenants::AuditNote;

/// Bytes handed to the client at once.
const PIECE_BYTES: usize = 256 << 10;

pub(super) async fn export(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let id = space_id(&request)?;
    let (departure, transfer) = host.export_space(id, tenant).await?;
    let (pieces, body) = mpsc::channel(PIECES);
    let metrics = Arc::clone(host.metrics());
    tokio::task::spawn_blocking(move || {
        let _transfer = transfer;
        let mut to = PieceWriter {
            pieces,
            piece: BytesMut::with_capacity(PIECE_BYTES),
            metrics,
        };
        let written = departure.write(&mut to).and_then(|()| to.hand_on());
        if let Err(error) = written {
            tracing::debug!(%error, space = %id, "an export broke off");
            // The client must not take it for the whole; one that has gone hears nothing.
            drop(to.pieces.blocking_send(Err(error)));
        }
    });
    let body = stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) });
    let headers = [
        (header::CONTENT_TYPE, SPACE_MEDIA_TYPE.to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{id}.space\""),
        ),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

pub(super) async fn import(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let mut content = Pin::new(Box::new(request.into_body()));
    let imported = receive(&host, tenant, &mut content).await;
    match imported {
        Ok(space) => {
            let note = AuditNote {
                target: Some(space.id.to_string()),
                detail: None,
            };
            Ok((Extension(note), Json(space)).into_response())
        }
        Err(refused) => {
            // A client that sends first and reads later still gets the answer.
            tokio::spawn(async move { body::drain(&mut content).await });
            Err(refused)
        }
    }
}

async fn receive(
    host: &Arc<Host>,
    tenant: Tenant,
    content: &mut Pin<Box<Body>>,
) -> Result<SpaceInfo, Failed> {
    let (pieces, arriving) = mpsc::channel(PIECES);
    let mut importing = std::pin::pin!(host.import_space(tenant, arriving));
    let feeding = async {
        let mut broken: Option<ApiError> = None;
        loop {
            let piece = match body::next(content).await {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => break,
                Err(error) => {
                    let cause = io::Error::other(error.message.clone());
                    broken = Some(error);
                    Err(cause)
                }
            };
            // Nobody takes it any more: the import has ended, and says why.
            if pieces.send(piece).await.is_err() || broken.is_some() {
                break;
            }
        }
        drop(pieces);
        broken
    };
    tokio::select! {
        biased;
        imported = &mut importing => return imported.map_err(Failed::from),
        broken = feeding => if let Some(error) = broken {
            return Err(Failed(error));
        }
    }
    importing.await.map_err(Failed::from)
}

/// Cuts what is written into pieces, and waits when the client is slower.
struct PieceWriter {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
    metrics: Arc<Metrics>,
}

impl PieceWriter {
    fn hand_on(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE_BYTES));
        if piece.is_empty() {
            return Ok(());
        }
        self.metrics.spaces.exported(piece.len() as u64);
        let sent = self.pieces.blocking_send(Ok(piece.freeze()));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone"))
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.piece.len() == PIECE_BYTES {
            self.hand_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

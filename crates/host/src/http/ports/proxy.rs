//! One request to a program in a sandbox, and its answer.
//!
//! Each has a connection of its own. Bodies pass through piece by piece, in both directions at once if the two want it; a
//! side that takes nothing holds the other up. The client going away drops the answer, and with it the connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use api::{ApiError, ErrorCode};
use axum::body::Body;
use axum::http::{Request, StatusCode, Uri, Version, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use lifecycle::Phase;
use pod_types::ErrorChain;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::error::{Failed, no_sandbox};
use super::entrance::{Entrance, authority, inner_path};
use super::location::Public;
use super::{failed, headers, share, splice};
use crate::host::Host;
use crate::ports::Tunnel;
use crate::sandbox::Sandbox;

/// How long a program may be silent over a request that it has taken nothing more of, before its answer begins.
const SILENCE: Duration = Duration::from_secs(600);
/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 128 * 1024;

/// On the way from a client to a program.
pub(super) struct Passage {
    pub(super) host: Arc<Host>,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) port: u16,
    pub(super) entrance: Entrance,
    pub(super) remote: Option<SocketAddr>,
}

impl Passage {
    pub(super) async fn pass_on(self, mut request: Request<Body>) -> Result<Response, Failed> {
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let wants_upgrade = headers::wanted_upgrade(request.headers()).is_some();
        let public = Public {
            scheme: share::scheme(&self.host, request.headers()),
            authority: authority(&request),
            prefix: self.entrance.prefix.clone(),
            port: self.port,
        };
        let tunnel = Tunnel::open(&self.sandbox, self.port).await;
        let tunnel = tunnel.map_err(|error| failed(error, &self.sandbox))?;
        let moved = tunnel.moved();
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(tunnel))
            .await
            .map_err(|error| self.not_understood(&error))?;
        let connection = Ended(tokio::spawn(async move {
            drop(connection.with_upgrades().await);
        }));
        let answer = sender.send_request(self.outgoing(request, &public)?);
        let answer = self.wait_for(answer, &moved).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client = client.filter(|_| wants_upgrade).ok_or_else(|| self.unasked())?;
            return self.switch(client, answer, moved).await;
        }
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_11;
        head.extensions.clear();
        headers::to_client(&mut head.headers, &self.entrance, &public);
        let body = Passing {
            body,
            _connection: connection,
        };
        Ok(Response::from_parts(head, Body::new(body)))
    }

    /// The request as the program gets it.
    fn outgoing(&self, request: Request<Body>, public: &Public) -> Result<Request<Body>, Failed> {
        let (mut head, body) = request.into_parts();
        let path = inner_path(&head.uri).unwrap_or("/");
        let query = head
            .uri
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        head.uri = format!("{path}{query}")
            .parse::<Uri>()
            .map_err(|_| super::super::error::not_found())?;
        head.version = Version::HTTP_11;
        head.extensions.clear();
        // What let the caller in, or would have, is no business of the guest's.
        let knows = |authorization: &[u8]| self.host.tenants().knows(authorization);
        headers::to_guest(&mut head.headers, &self.entrance, public, self.remote, &knows);
        Ok(Request::from_parts(head, body))
    }

    /// The answer's head. A body that is still on its way there, or anything else that moves, gives it more time.
    async fn wait_for(
        &self,
        answer: impl Future<Output = hyper::Result<hyper::Response<Incoming>>>,
        moved: &AtomicU64,
    ) -> Result<hyper::Response<Incoming>, Failed> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let before = moved.load(Ordering::Relaxed);
            match timeout(SILENCE, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| self.not_understood(&error)),
                Err(_) if moved.load(Ordering::Relaxed) != before => {}
                Err(_) => {
                    let (port, seconds) = (self.port, SILENCE.as_secs());
                    let text = format!("what listens on port {port} has not answered for {seconds} s");
                    return Err(Failed(ApiError::new(ErrorCode::PortTimeout, text)));
                }
            }
        }
    }

    /// Both sides speak another protocol from here on.
    async fn switch(
        &self,
        client: OnUpgrade,
        mut answer: hyper::Response<Incoming>,
        moved: Arc<AtomicU64>,
    ) -> Result<Response, Failed> {
        let protocol = answer.headers().get(header::UPGRADE).cloned();
        let program = hyper::upgrade::on(&mut answer).await;
        let program = program.map_err(|error| self.not_understood(&error))?;
        splice::upgraded(client, program, moved);
        let (mut head, _) = answer.into_parts();
        head.version = Version::HTTP_11;
        head.extensions.clear();
        headers::strip(&mut head.headers);
        head.headers
            .insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        head.headers
            .extend(protocol.map(|protocol| (header::UPGRADE, protocol)));
        Ok(Response::from_parts(head, Body::empty()))
    }

    fn unasked(&self) -> Failed {
        let text = format!("what listens on port {} switches protocols unasked", self.port);
        Failed(ApiError::new(ErrorCode::BadPortAnswer, text))
    }

    fn not_understood(&self, error: &hyper::Error) -> Failed {
        if matches!(self.sandbox.phase(), Phase::Ending { .. } | Phase::Gone { .. }) {
            return no_sandbox();
        }
        let what = if error.is_parse() {
            "did not answer in HTTP"
        } else {
            "closed the connection before it had answered"
        };
        let (port, why) = (self.port, ErrorChain(error));
        let text = format!("what listens on port {port} {what}: {why}");
        Failed(
            ApiError::new(ErrorCode::BadPortAnswer, text)
                .hint("what speaks another protocol is reached with `podflare forward`"),
        )
    }
}

/// Ends a connection's task with whoever waits for what it brings.
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body on its way to the client.
struct Passing {
    body: Incoming,
    _connection: Ended,
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

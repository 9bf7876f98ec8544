//! One request and its answer.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use egress::Name;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use pod_types::ErrorChain;
use thiserror::Error;
use tokio::time::timeout;

use super::set::Shared;
use super::substitute;
use super::upstream::UpstreamError;

/// Of a request that is refused, so much is taken: a client that is still sending would not see the answer.
const DRAINED_BYTES_MAX: usize = 1024 * 1024;
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

pub(super) type Body = BoxBody<Bytes, hyper::Error>;

/// What all requests of a connection share.
pub(super) struct Exchange {
    pub(super) name: Name,
    pub(super) port: u16,
    pub(super) bound: Shared,
    pub(super) upstream: Result<tokio::sync::Mutex<SendRequest<Incoming>>, UpstreamError>,
    /// A request has gone out.
    pub(super) used: AtomicBool,
    /// Both sides have agreed to speak something else.
    pub(super) upgrade: Mutex<Option<(OnUpgrade, OnUpgrade)>>,
}

/// The real host has closed a connection that was in use. A client that sees the same of its own knows what to do.
#[derive(Debug, Error)]
#[error("the connection to the real host is gone")]
pub(super) struct Gone(#[source] hyper::Error);

/// An answer of our own.
struct Refusal(StatusCode, String);

impl Exchange {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Gone> {
        let (mut parts, body) = request.into_parts();
        let upstream = match self.prepare(&mut parts) {
            Ok(()) => self.upstream.as_ref().map_err(|error| self.bad_gateway(error)),
            Err(refusal) => Err(refusal),
        };
        match upstream {
            Ok(upstream) => self.forward(upstream, Request::from_parts(parts, body)).await,
            Err(refusal) => {
                let _ = timeout(DRAIN_PATIENCE, drain(body)).await;
                Ok(refusal.response())
            }
        }
    }

    pub(super) fn take_upgrade(&self) -> Option<(OnUpgrade, OnUpgrade)> {
        self.upgrade.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn is_upgrading(&self) -> bool {
        let upgrade = self.upgrade.lock().unwrap_or_else(PoisonError::into_inner);
        upgrade.is_some()
    }

    /// Makes of the guest's request what the real host is to get.
    fn prepare(&self, parts: &mut Parts) -> Result<(), Refusal> {
        // The one would make the host a proxy; the other asks it to send back what it was sent.
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            let text = format!("{} cannot be used on a connection with secrets", parts.method);
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        self.check_host(parts)?;
        let target = parts.uri.path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let replaced = substitute::in_head(&mut parts.headers, &target, &self.bound.now());
        let replaced = replaced
            .map_err(|error| Refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, error.to_string()))?;
        parts.uri = Uri::from(replaced.unwrap_or(target));
        parts.version = Version::HTTP_11;
        Ok(())
    }

    /// A request for another host on the same connection would carry this host's secrets to wherever the other's is served.
    fn check_host(&self, parts: &Parts) -> Result<(), Refusal> {
        let mut hosts = parts.headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
            _ => None,
        };
        let is_ours = host.as_ref().is_some_and(|host| self.is_ours(host));
        if is_ours && parts.uri.authority().is_none_or(|host| self.is_ours(host)) {
            return Ok(());
        }
        let text = format!(
            "this connection is for {}, and its requests can be for no other host",
            self.name
        );
        Err(Refusal(StatusCode::MISDIRECTED_REQUEST, text))
    }

    fn is_ours(&self, authority: &Authority) -> bool {
        let name = Name::from_ascii(authority.host().as_bytes());
        !authority.as_str().contains('@')
            && name.as_ref() == Ok(&self.name)
            && authority.port_u16().unwrap_or(self.port) == self.port
    }

    async fn forward(
        &self,
        upstream: &tokio::sync::Mutex<SendRequest<Incoming>>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Gone> {
        let wants_upgrade = request.headers().contains_key(UPGRADE);
        let guest = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let was_used = self.used.swap(true, Ordering::Relaxed);
        let mut upstream = upstream.lock().await;
        let answer = match upstream.ready().await {
            Ok(()) => upstream.send_request(request).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(mut answer) => {
                if let Some(guest) = guest
                    && answer.status() == StatusCode::SWITCHING_PROTOCOLS
                {
                    let host = hyper::upgrade::on(&mut answer);
                    let mut upgrade = self.upgrade.lock().unwrap_or_else(PoisonError::into_inner);
                    *upgrade = Some((guest, host));
                }
                Ok(answer.map(Incoming::boxed))
            }
            Err(error) if was_used => Err(Gone(error)),
            Err(error) => Ok(self.bad_gateway(&error).response()),
        }
    }

    fn bad_gateway(&self, error: &dyn std::error::Error) -> Refusal {
        let text = format!("no connection to {}: {}", self.name, ErrorChain(error));
        Refusal(StatusCode::BAD_GATEWAY, text)
    }
}

impl Refusal {
    /// The last of its connection.
    fn response(self) -> Response<Body> {
        let Self(status, text) = self;
        let body = Full::new(Bytes::from(format!("podflare: {text}\n")));
        let mut response = Response::new(body.map_err(|never: Infallible| match never {}).boxed());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

async fn drain(mut body: Incoming) {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, Bytes::len);
        if taken > DRAINED_BYTES_MAX {
            return;
        }
    }
}

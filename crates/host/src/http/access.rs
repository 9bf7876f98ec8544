//! One request from its head to the head of its response: its span, its line in the log, and its counters.
//!
//! Runs, health checks and scrapes are many, so theirs are of the debug level, unless the client has sent a trace context:
//! who traces a request wants to find it.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::MatchedPath;
use axum::http::Method;
use axum::response::Response;
use hyper::Request;
use pod_types::SandboxId;
use telemetry::TraceContext;
use tower::{Layer, Service};
use tracing::Span;
use tracing::field::{Empty, display};

use crate::events;
use crate::metrics::{Metrics, RouteMetrics};

/// A request that is being answered.
pub(super) struct Visit {
    started: Instant,
    method: Method,
    span: Span,
    route: RouteNote,
    loud: bool,
}

/// Which route took a request, once one has. It travels with the request.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteNote(Arc<OnceLock<Arc<RouteMetrics>>>);

impl Visit {
    /// To be called when the path is without a region's prefix.
    pub(super) fn begin<B>(request: &mut Request<B>) -> Self {
        let header = request.headers().get("traceparent");
        let caller = header.and_then(|value| TraceContext::parse(value.as_bytes()));
        let path = shown(request.uri().path());
        let frequent = path.ends_with("/exec") || is_watching(path) || is_of_a_port(path);
        let loud = !frequent || caller.is_some();
        let span = span(request.method(), path, caller.as_ref(), loud);
        if let Some(caller) = &caller {
            telemetry::join(&span, caller);
        }
        let here = telemetry::context_of(&span);
        if caller.is_none()
            && let Some(here) = &here
        {
            span.record("trace_id", display(here.trace_id()));
        }
        let visit = Self {
            started: Instant::now(),
            method: request.method().clone(),
            span,
            route: RouteNote::default(),
            loud,
        };
        let extensions = request.extensions_mut();
        extensions.insert(visit.route.clone());
        // What is done for this request is done within this trace.
        if let Some(trace) = here.or(caller) {
            extensions.insert(trace);
        }
        visit
    }

    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(super) fn end(self, response: &Response, metrics: Option<&Metrics>) {
        let (took, status) = (self.started.elapsed(), response.status().as_u16());
        let Some(metrics) = metrics else { return };
        let route = self.route.0.get().unwrap_or_else(|| metrics.http.unmatched());
        route.answered(self.method.as_str(), status, took);
        let _span = self.span.enter();
        let (milliseconds, route) = (took.as_secs_f64() * 1000.0, route.template());
        if self.loud {
            tracing::info!(
                event = events::HTTP_REQUEST,
                status,
                milliseconds,
                route,
                "answered"
            );
        } else {
            tracing::debug!(
                event = events::HTTP_REQUEST,
                status,
                milliseconds,
                route,
                "answered"
            );
        }
    }
}

fn span(method: &Method, path: &str, caller: Option<&TraceContext>, loud: bool) -> Span {
    let trace_id = caller.map(|caller| display(caller.trace_id()));
    let parent_span_id = caller.map(|caller| display(caller.span_id()));
    if loud {
        let span = tracing::info_span!(
            "http_request", %method, path, trace_id, parent_span_id, sandbox_id = Empty
        );
        if let Some(id) = sandbox_in(path) {
            span.record("sandbox_id", display(id));
        }
        span
    } else if is_watching(path) {
        // Of interest to nobody, a collector included.
        tracing::trace_span!("http_request", %method, path)
    } else {
        // Almost always switched off.
        tracing::debug_span!("http_request", %method, path, trace_id, sandbox_id = sandbox_in(path).map(display))
    }
}

/// A path as it is logged: a token in it, which may be good, is not.
fn shown(path: &str) -> &str {
    let shared = "/v1/shared/";
    if path.starts_with(shared) { shared } else { path }
}

/// A page asks for many things.
fn is_of_a_port(path: &str) -> bool {
    path.starts_with("/v1/sandboxes/") && path.split('/').nth(4) == Some("ports")
}

/// Asked again and again by those who watch a host.
fn is_watching(path: &str) -> bool {
    matches!(path, "/v1/healthz" | "/metrics")
}

/// An id that is well-formed, so that it can be logged as one.
fn sandbox_in(path: &str) -> Option<SandboxId> {
    let rest = path.strip_prefix("/v1/sandboxes/")?;
    rest.split('/').next()?.parse().ok()
}

impl RouteNote {
    /// The request went there; only the first word counts.
    pub(super) fn set(&self, route: &Arc<RouteMetrics>) {
        drop(self.0.set(Arc::clone(route)));
    }
}

/// Tells which route takes a request. One is made for each, so that its counters are looked up once.
#[derive(Clone)]
pub(super) struct NoteRoute(pub(super) Arc<Metrics>);

#[derive(Clone)]
pub(super) struct Noting<S> {
    inner: S,
    metrics: Arc<Metrics>,
    route: Arc<OnceLock<Arc<RouteMetrics>>>,
}

impl<S> Layer<S> for NoteRoute {
    type Service = Noting<S>;

    fn layer(&self, inner: S) -> Noting<S> {
        Noting {
            inner,
            metrics: Arc::clone(&self.0),
            route: Arc::default(),
        }
    }
}

impl<S, B> Service<Request<B>> for Noting<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let extensions = request.extensions();
        if let (Some(path), Some(note)) = (extensions.get::<MatchedPath>(), extensions.get::<RouteNote>()) {
            note.set(self.route.get_or_init(|| self.metrics.http.route(path.as_str())));
        }
        self.inner.call(request)
    }
}

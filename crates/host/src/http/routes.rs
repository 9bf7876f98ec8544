//! A router that remembers its paths, so that a test can hold it against the OpenAPI document.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::MethodRouter;

use super::error::{Failed, method_not_allowed, not_found};
use crate::host::Host;

/// Routes as they are collected. Every one is an operation of the OpenAPI document: a test fails otherwise.
#[derive(Debug, Default)]
pub(super) struct Routes {
    router: Router<Arc<Host>>,
    paths: Vec<&'static str>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn route(mut self, path: &'static str, methods: MethodRouter<Arc<Host>>) -> Self {
        self.paths.push(path);
        self.router = self.router.route(path, methods);
        self
    }

    /// Another way to write a route that is there, which the document does not tell apart from it.
    pub(super) fn spelling(mut self, path: &'static str, methods: MethodRouter<Arc<Host>>) -> Self {
        self.router = self.router.route(path, methods);
        self
    }

    /// Those of another part of the API.
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
        self.router = self.router.merge(other.router);
        self
    }

    #[cfg(test)]
    pub(super) fn paths(&self) -> &[&'static str] {
        &self.paths
    }

    /// What is not among them is answered like any other error.
    pub(super) fn with_state(self, host: Arc<Host>) -> Router {
        self.router
            .fallback(|| async { not_found() })
            .method_not_allowed_fallback(refuse_method)
            .with_state(host)
    }
}

/// The router itself adds which methods there are.
async fn refuse_method(request: Request) -> Failed {
    method_not_allowed(request.method(), request.uri().path())
}

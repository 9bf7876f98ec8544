//! What every request passes before the router.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use api::{ApiError, ErrorCode};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use hyper::body::Incoming;
use pod_types::SandboxId;
use tower::Service as _;
use tracing::Instrument as _;

use super::access::{NoteRoute, RouteNote, Visit};
use super::error::{Failed, not_found};
use super::metrics::{self, Readers};
use super::routes::Routes;
use super::unread::{Rest, Shared};
use super::{
    admin, audit, browser, checkpoints, diff, documents, egress, exec, fates, files, forks, frozen_hint,
    ports, pty, replay, sandboxes, secrets, spaces, status, terminal_page, transfers, usage, webhooks,
};
use crate::auth::Refusal;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::tenants::Caller;

/// The whole HTTP API. It serves from the first moment, and says that it starts until it has a host.
#[derive(Debug)]
pub struct Api {
    /// The only region served under `/r/<region>/`; any when there is none.
    region: Option<String>,
    router: OnceLock<(Arc<Host>, Router)>,
    /// Who may read the metrics on the API's own address.
    readers: Readers,
}

impl Api {
    #[must_use]
    pub fn new(region: Option<String>, metrics_key: Option<&str>) -> Arc<Self> {
        Arc::new(Self {
            readers: Readers::of(metrics_key),
            region,
            router: OnceLock::new(),
        })
    }

    /// From now on calls are answered. Only the first host counts.
    pub fn ready(&self, host: Arc<Host>) {
        let note = NoteRoute(Arc::clone(host.metrics()));
        let router = routes().with_state(Arc::clone(&host)).layer(note);
        drop(self.router.set((host, router)));
    }

    pub(super) async fn answer(&self, mut request: hyper::Request<Incoming>, remote: SocketAddr) -> Response {
        let inner = self.rewrite(&mut request);
        let visit = Visit::begin(&mut request);
        let (request, rest) = Rest::of(request);
        let mut response = match inner {
            Ok(()) => self.admit(request, remote).instrument(visit.span()).await,
            Err(error) => {
                drop(request);
                error.into_response()
            }
        };
        rest.settle(&mut response).await;
        visit.end(&response, self.metrics());
        response
    }

    /// Gives a request the path that the router knows.
    fn rewrite(&self, request: &mut hyper::Request<Incoming>) -> Result<(), Failed> {
        let host = self.host();
        if host.is_some_and(|host| ports::by_name(host, request)) {
            return Ok(());
        }
        if let Some(uri) = without_prefix(request.uri(), self.region.as_deref())? {
            let all = request.uri().path();
            let prefix = &all[..all.len().saturating_sub(uri.path().len())];
            let prefix = ports::Prefix(prefix.to_owned());
            request.extensions_mut().insert(prefix);
            *request.uri_mut() = uri;
        }
        if let Some(host) = host {
            ports::by_token(host, request);
        }
        Ok(())
    }

    /// The same where only metrics are to be had, and whoever reaches it may have them.
    pub(super) async fn answer_metrics(&self, request: hyper::Request<Incoming>) -> Response {
        if request.uri().path() == metrics::PATH {
            metrics::answer(request.method(), self.host()).await
        } else {
            not_found().into_response()
        }
    }

    fn host(&self) -> Option<&Arc<Host>> {
        self.router.get().map(|(host, _)| host)
    }

    /// What this host counts, once there is one.
    pub(super) fn metrics(&self) -> Option<&Metrics> {
        self.host().map(|host| &**host.metrics())
    }

    async fn admit(&self, mut request: hyper::Request<Shared>, remote: SocketAddr) -> Response {
        let path = request.uri().path();
        if let Some(document) = documents::answer(request.method(), path) {
            return document;
        }
        if matches!(path, "/v1/healthz" | metrics::PATH)
            && let Some((counted, note)) = self.metrics().zip(request.extensions().get::<RouteNote>())
        {
            note.set(&counted.http.route(path));
        }
        if path == "/v1/healthz" {
            return status::healthz(request.method(), self.host().map(|host| &**host));
        }
        let entrance = request.extensions().get::<ports::Entrance>().cloned();
        let foreign = match entrance.as_ref().zip(self.host()) {
            Some((entrance, host)) => entrance.admit(host, request.headers()),
            None => browser::admit(request.headers(), self.host().map(|host| host.auth().mode())),
        };
        if let Err(foreign) = foreign {
            return foreign.into_response();
        }
        if let Some(page) = terminal_page::answer(request.method(), path) {
            return page;
        }
        let credential = browser::credential(request.headers());
        let authorization = credential.as_deref();
        if path == metrics::PATH {
            return match self.readers.admit(authorization, self.host()) {
                Ok(()) => metrics::answer(request.method(), self.host()).await,
                Err(error) => error.into_response(),
            };
        }
        // Keys are known when there is a host.
        let Some((host, router)) = self.router.get() else {
            let error = ApiError::new(ErrorCode::ShuttingDown, "the host is starting").retry_after(1);
            return Failed(error).into_response();
        };
        let (mut audit, mut obituary) = (None, None);
        let mut asked_for = None;
        if path.starts_with(admin::PREFIX) {
            if !host.auth().is_operator(authorization) {
                return admin::unauthorized(host).into_response();
            }
            request.extensions_mut().insert(admin::Remote(remote));
        } else {
            let admitted = match ports::admitted(host, entrance.as_ref(), authorization, path) {
                Ok(admitted) => admitted,
                Err(refused) => return refused.into_response(),
            };
            let caller = Caller::new(admitted, Some(remote));
            request.extensions_mut().insert(caller.account.tenant());
            request.extensions_mut().insert(caller.clone());
            let tenant = caller.account.tenant();
            asked_for = frozen_hint::asked_for(request.uri().path()).map(|id| (id, tenant));
            if let Some((id, tenant)) = asked_for
                && frozen_hint::wakes(request.uri().path())
                && caller.account.wake().unwrap_or(host.config().spaces.wake)
            {
                host.wake(id, tenant).await;
            }
            obituary = fates::Inquiry::of(&request).map(|inquiry| (inquiry, tenant));
            audit = audit::Deed::of(&request).map(|deed| (deed, caller));
        }
        // The router is always ready and never fails.
        let Ok(mut response) = router.clone().call(request).await;
        if let Some((inquiry, tenant)) = obituary {
            response = inquiry.answer(host, tenant, response);
        }
        if let Some((id, tenant)) = asked_for {
            response = frozen_hint::add(response, host, id, tenant);
        }
        if let Some((deed, caller)) = audit {
            deed.note(host.tenants().audit(), &caller, &response);
        }
        response
    }
}

/// Each is an operation in `api::openapi`, too; a test compares them.
pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/v1/sandboxes", post(sandboxes::create).get(sandboxes::list))
        .route(
            "/v1/sandboxes/{id}",
            get(sandboxes::show)
                .patch(sandboxes::change)
                .delete(sandboxes::delete),
        )
        .route("/v1/sandboxes/{id}/exec", post(exec::exec))
        .route("/v1/sandboxes/{id}/replay", get(replay::replay))
        .route("/v1/sandboxes/{id}/fork", post(forks::fork))
        .route("/v1/sandboxes/{id}/merge_into/{winner}", post(forks::merge))
        .route(
            "/v1/sandboxes/{id}/checkpoints",
            post(checkpoints::create).get(checkpoints::list),
        )
        .route(
            "/v1/sandboxes/{id}/checkpoints/{checkpoint}",
            delete(checkpoints::delete),
        )
        .route("/v1/sandboxes/{id}/rollback", post(checkpoints::roll_back))
        .route("/v1/sandboxes/{id}/diff/{other}", get(diff::diff))
        .route("/v1/sandboxes/{id}/files", files::routes())
        .route("/v1/sandboxes/{id}/files/watch", files::watch_route())
        .route("/v1/sandboxes/{id}/console", get(sandboxes::console))
        .route("/v1/sandboxes/{id}/egress/log", get(egress::log))
        .route("/v1/sandboxes/{id}/pty", post(pty::create).get(pty::list))
        .route("/v1/sandboxes/{id}/pty/{pty}/attach", get(pty::attach))
        .route("/v1/sandboxes/{id}/pty/{pty}/input", post(pty::input))
        .route("/v1/sandboxes/{id}/pty/{pty}/resize", post(pty::resize))
        .route("/v1/sandboxes/{id}/pty/{pty}/kill", post(pty::kill))
        .route("/v1/sandboxes/{id}/pty/{pty}/read", post(pty::read))
        .route("/v1/sandboxes/{id}/freeze", post(spaces::freeze))
        .route("/v1/spaces", get(spaces::list))
        .route("/v1/spaces/{space}", get(spaces::show).delete(spaces::delete))
        .route("/v1/spaces/{space}/resume", post(spaces::resume))
        .route("/v1/spaces/{space}/export", get(transfers::export))
        .route("/v1/spaces/import", post(transfers::import))
        .route("/v1/capacity", get(status::capacity))
        .route("/v1/usage", get(usage::own))
        .merge(ports::routes())
        .merge(webhooks::routes())
        .merge(secrets::routes())
        .merge(admin::routes())
}

/// The sandbox that a path under `/v1/sandboxes/` names.
pub(super) fn sandbox_id(request: &Request<Body>) -> Result<SandboxId, Failed> {
    let rest = request.uri().path().strip_prefix("/v1/sandboxes/");
    let id = rest.and_then(|rest| rest.split('/').next()?.parse().ok());
    id.ok_or_else(super::error::no_sandbox)
}

pub(super) fn unauthorized(refusal: Refusal) -> Failed {
    Failed(match refusal {
        Refusal::Missing => ApiError::new(ErrorCode::MissingKey, "missing Authorization: Bearer <key>"),
        Refusal::Unknown => ApiError::new(ErrorCode::InvalidKey, "invalid api key"),
        Refusal::Mistyped => ApiError::new(ErrorCode::InvalidKey, "invalid api key")
            .hint("it is mistyped or was cut: its checksum is wrong"),
        Refusal::Revoked => ApiError::new(ErrorCode::InvalidKey, "invalid api key")
            .hint("it was revoked or has been replaced"),
    })
}

/// The URI without a leading `/r/<region>`; `None` when there is no such prefix.
fn without_prefix(uri: &Uri, region: Option<&str>) -> Result<Option<Uri>, Failed> {
    let Some(rest) = uri.path().strip_prefix("/r/") else {
        return Ok(None);
    };
    let Some((name, _)) = rest.split_once('/') else {
        return Err(not_found());
    };
    if region.is_some_and(|region| !region.eq_ignore_ascii_case(name)) {
        return Err(not_found());
    }
    let whole = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let inner = whole.get("/r/".len() + name.len()..).unwrap_or("/");
    inner.parse().map(Some).map_err(|_| not_found())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_prefix_is_taken_off_and_nothing_else() {
        let strip = |uri: &str, region: Option<&str>| {
            without_prefix(&uri.parse().unwrap(), region)
                .map(|uri| uri.map(|uri| uri.to_string()))
                .ok()
        };
        assert_eq!(strip("/v1/sandboxes", None), Some(None));
        let inner = Some(Some("/v1/sandboxes?a=b".to_owned()));
        assert_eq!(strip("/r/lab%201/v1/sandboxes?a=b", None), inner);
        assert_eq!(strip("/r/EU/v1/sandboxes?a=b", Some("eu")), inner);
        assert_eq!(strip("/r/us/v1/sandboxes", Some("eu")), None);
        assert_eq!(strip("/r/us", None), None);
    }
}

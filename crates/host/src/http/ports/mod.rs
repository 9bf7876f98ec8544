//! `/v1/sandboxes/{id}/ports`, `…/share/{port}`, `…/tunnel/{port}`, `/v1/shared/{token}` and host names of ports.
//!
//! ```text
//!  8080-sbx-….domain/a ──┐
//!  /v1/shared/{token}/a ─┴─[entrance]─▶ /v1/sandboxes/{id}/ports/8080/a ─▶ [proxy] ─▶ Tunnel ─▶ the guest's program
//! ```
//!
//! The front turns the other forms into the first before anything else looks at a request, so that waking, hints, metrics
//! and logs know one form only, and no token gets into a log.
//!
//! **Whose page it is.** What a guest serves is the guest's, and a browser must not take it for a page of this host. On a
//! host name of its own it is none. Below this API's paths it would be, so it is served as a page of no origin at all
//! (`Content-Security-Policy: sandbox`), and browsers are sent to the host name where there is one.

mod entrance;
mod headers;
mod location;
mod proxy;
mod share;
mod splice;

use std::sync::Arc;

use api::{ApiError, ErrorCode, InvalidRequest, PortList};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on, post};
use axum::{Extension, Json};
use hyper::upgrade::OnUpgrade;
use lifecycle::Phase;
use pod_types::ErrorChain;

use super::error::{Failed, no_sandbox, sandbox_failed};
use super::ready::find;
use super::routes::Routes;
use crate::auth::Tenant;
use crate::host::Host;
use crate::ports::{self, PortError, Tunnel, port_number};
use crate::sandbox::Sandbox;
use crate::tenants::Caller;

pub(super) use entrance::{Entrance, Prefix, admitted, by_name, by_token};

/// Into what a tunnel's connection is upgraded.
const TUNNEL_PROTOCOL: &str = "podflare-tcp";

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/v1/sandboxes/{id}/ports", get(list))
        .route("/v1/sandboxes/{id}/share/{port}", post(share::share))
        .route("/v1/sandboxes/{id}/tunnel/{port}", get(tunnel))
        .route("/v1/sandboxes/{id}/ports/{port}/{*path}", passed_on())
        .spelling("/v1/sandboxes/{id}/ports/{port}/", passed_on())
        .spelling("/v1/sandboxes/{id}/ports/{port}", passed_on())
        .route("/v1/shared/{token}/{*path}", refused())
        .spelling("/v1/shared/{token}/", refused())
        .spelling("/v1/shared/{token}", refused())
}

/// What programs are asked with.
const METHODS: MethodFilter = MethodFilter::GET
    .or(MethodFilter::POST)
    .or(MethodFilter::PUT)
    .or(MethodFilter::PATCH)
    .or(MethodFilter::DELETE)
    .or(MethodFilter::OPTIONS);

fn passed_on() -> MethodRouter<Arc<Host>> {
    on(METHODS, pass_on)
}

/// Tokens that give leave have been turned into what they give leave for; these do not.
fn refused() -> MethodRouter<Arc<Host>> {
    on(METHODS, share::refuse)
}

async fn list(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<PortList>, Failed> {
    let sandbox = find(&host, tenant, &request)?;
    let ports = ports::list(&sandbox).await;
    let ports = ports.map_err(|error| failed(error, &sandbox))?;
    Ok(Json(PortList { ports }))
}

async fn pass_on(
    State(host): State<Arc<Host>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response, Failed> {
    let port = port_of(&request)?;
    let sandbox = find(&host, caller.account.tenant(), &request)?;
    let entrance = Entrance::of(&request);
    if let Some(elsewhere) = entrance.elsewhere(&host, sandbox.id(), port, &request) {
        return Ok(elsewhere);
    }
    let passage = proxy::Passage {
        host,
        sandbox,
        port,
        entrance,
        remote: caller.remote,
    };
    passage.pass_on(request).await
}

/// A connection to a port, as bytes.
async fn tunnel(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    mut request: Request<Body>,
) -> Result<Response, Failed> {
    let port = port_of(&request)?;
    let client = request.extensions_mut().remove::<OnUpgrade>();
    let asked = headers::wanted_upgrade(request.headers());
    let asked = asked.is_some_and(|protocol| {
        protocol
            .as_bytes()
            .eq_ignore_ascii_case(TUNNEL_PROTOCOL.as_bytes())
    });
    let Some(client) = client.filter(|_| asked && *request.method() == Method::GET) else {
        return Ok(upgrade_required());
    };
    let sandbox = find(&host, tenant, &request)?;
    let tunnel = Tunnel::open(&sandbox, port).await;
    let tunnel = tunnel.map_err(|error| failed(error, &sandbox))?;
    splice::tunnel(client, tunnel);
    let head = [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, TUNNEL_PROTOCOL),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, head).into_response())
}

fn upgrade_required() -> Response {
    let text = "a tunnel is an upgrade of the connection";
    let error = ApiError::new(ErrorCode::UpgradeRequired, text)
        .hint("send Connection: Upgrade and Upgrade: podflare-tcp, or use `podflare forward`");
    let mut response = Failed(error).into_response();
    response
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static(TUNNEL_PROTOCOL));
    response
}

/// The port that a path `/v1/sandboxes/{id}/ports/{port}…` names.
fn port_of(request: &Request<Body>) -> Result<u16, Failed> {
    let text = request.uri().path().split('/').nth(5).unwrap_or_default();
    port_number(text).ok_or_else(|| {
        Failed::from(InvalidRequest::Field {
            field: "port",
            expected: "a number from 1 to 65535".to_owned(),
            got: text.chars().take(60).collect(),
        })
    })
}

fn failed(error: PortError, sandbox: &Sandbox) -> Failed {
    let text = ErrorChain(&error).to_string();
    Failed(match error {
        PortError::TooMany => ApiError::new(ErrorCode::TooManyPortConnections, text)
            .hint("close some; a WebSocket and a stream of events are one each")
            .retry_after(1),
        PortError::Refused { .. } => ApiError::new(ErrorCode::PortRefused, text).hint(format!(
            "GET /v1/sandboxes/{}/ports lists what listens",
            sandbox.id()
        )),
        PortError::NotTaken { .. } => ApiError::new(ErrorCode::PortTimeout, text)
            .hint("it may be stopped, or busy with as many connections as it wants"),
        PortError::Failed(_) | PortError::Agent(_) => ApiError::new(ErrorCode::AgentFailed, text),
        PortError::Lost(_) => match sandbox.phase() {
            Phase::Ending { .. } | Phase::Gone { .. } => return no_sandbox(),
            _ => sandbox_failed(text, sandbox),
        },
    })
}

/// A header of the guest's or for it, by a name that is not among HTTP's own.
const fn named(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

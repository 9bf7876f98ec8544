//! By which way a request has come to a port, and what lets it in.

use api::{ApiError, ErrorCode};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use pod_types::SandboxId;

use super::super::error::{Failed, no_sandbox};
use super::super::front::unauthorized;
use super::share::{self, COOKIE};
use crate::clock;
use crate::host::Host;
use crate::ports::{Grant, NotGranted};
use crate::tenants::Admitted;

/// What in front of a path of the API has been taken off: `/r/<region>`.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Prefix(pub(in super::super) String);

/// It travels with the request.
#[derive(Clone, Debug)]
pub(in super::super) struct Entrance {
    pub(super) way: Way,
    /// The path, as the client sees it, below which the port's paths are; nothing on a host name of its own.
    pub(super) prefix: String,
    /// What a token gives leave for: this port.
    grant: Option<Grant>,
    /// The token, where it is part of the URL.
    token: Option<String>,
    /// Why the token that came gives no leave.
    refusal: Option<NotGranted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A path of the API, with a key.
    Path,
    /// A path with a token.
    Shared,
    /// A host name.
    Name,
}

/// Turns a request to a port's own host name into one of the API. False when it is none.
pub(in super::super) fn by_name<B>(host: &Host, request: &mut Request<B>) -> bool {
    let Some(domain) = &host.config().ports_domain else {
        return false;
    };
    let named = authority(request).and_then(|authority| domain.find(&authority));
    let Some((sandbox, port)) = named else {
        return false;
    };
    let path = request.uri().path();
    if !path.starts_with('/') {
        return false;
    }
    let (token, query) = share::take_token(request.uri().query());
    let inner = format!("/v1/sandboxes/{sandbox}/ports/{port}{path}{query}");
    let Ok(inner) = inner.parse::<Uri>() else {
        return false;
    };
    let cookies = share::cookie_tokens(request.headers());
    let mut entrance = Entrance {
        way: Way::Name,
        prefix: String::new(),
        grant: None,
        token: token.clone(),
        refusal: None,
    };
    let now_ms = clock::now_ms();
    // A page of another port's name may have put a cookie of that name here: the right one counts, wherever it is.
    for token in token.iter().map(String::as_str).chain(cookies) {
        match host.share_key().verify(token, now_ms) {
            Ok(grant) if grant.sandbox == sandbox && grant.port == port => {
                entrance.grant = Some(grant);
                entrance.refusal = None;
                break;
            }
            Ok(_) => entrance.refusal = entrance.refusal.or(Some(NotGranted::Forged)),
            Err(refusal) => entrance.refusal = entrance.refusal.or(Some(refusal)),
        }
    }
    *request.uri_mut() = inner;
    request.extensions_mut().insert(entrance);
    true
}

/// The same with a path that begins with a token. One that gives no leave stays as it is, and is refused by its route.
pub(in super::super) fn by_token<B>(host: &Host, request: &mut Request<B>) {
    let Some(rest) = request.uri().path().strip_prefix(share::PATH) else {
        return;
    };
    let (token, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Ok(grant) = host.share_key().verify(token, clock::now_ms()) else {
        return;
    };
    let Grant { sandbox, port, .. } = grant;
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let inner = format!("/v1/sandboxes/{sandbox}/ports/{port}{path}{query}");
    let Ok(inner) = inner.parse::<Uri>() else {
        return;
    };
    let before = request.extensions().get::<Prefix>().cloned().unwrap_or_default();
    let entrance = Entrance {
        way: Way::Shared,
        prefix: format!("{}{}{token}", before.0, share::PATH),
        grant: Some(grant),
        token: Some(token.to_owned()),
        refusal: None,
    };
    *request.uri_mut() = inner;
    request.extensions_mut().insert(entrance);
}

/// Who a caller is: by the token that was brought, or by the key. A path with a token that gives no leave is open to
/// everybody, who is told why.
pub(in super::super) fn admitted(
    host: &Host,
    entrance: Option<&Entrance>,
    authorization: Option<&[u8]>,
    path: &str,
) -> Result<Admitted, Failed> {
    if let Some(grant) = entrance.and_then(|entrance| entrance.grant.as_ref()) {
        // A tenant that is gone has no sandboxes.
        return host.tenants().guest_of(grant.tenant).ok_or_else(no_sandbox);
    }
    let is_open = host.auth().is_open() || path.starts_with(share::PATH);
    let admitted = host.tenants().admit(authorization, is_open);
    admitted.map_err(|refusal| {
        let token = entrance.and_then(|entrance| entrance.refusal);
        token.map_or_else(|| unauthorized(refusal), share::not_granted)
    })
}

impl Entrance {
    /// That of a request which has come to a port.
    pub(super) fn of(request: &Request<Body>) -> Self {
        if let Some(entrance) = request.extensions().get::<Self>() {
            return entrance.clone();
        }
        let before = request.extensions().get::<Prefix>().cloned().unwrap_or_default();
        // `/v1/sandboxes/{id}/ports/{port}`
        let own: Vec<&str> = request.uri().path().split('/').take(6).collect();
        Self {
            way: Way::Path,
            prefix: format!("{}{}", before.0, own.join("/")),
            grant: None,
            token: None,
            refusal: None,
        }
    }

    /// Refuses what pages of other sites ask. The token in a URL is no credential that a browser sends by itself, so
    /// whoever has one may come from anywhere; ports of one sandbox trust each other.
    pub(in super::super) fn admit(&self, host: &Host, headers: &HeaderMap) -> Result<(), Failed> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(());
        };
        if self.token.is_some() {
            return Ok(());
        }
        let site = origin
            .to_str()
            .ok()
            .and_then(|origin| Some(origin.split_once("://")?.1));
        let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let sandbox_of = |authority: &str| {
            let domain = host.config().ports_domain.as_ref()?;
            Some(domain.find(authority)?.0)
        };
        if let (Some(site), Some(own)) = (site, own)
            && (site.eq_ignore_ascii_case(own)
                || sandbox_of(site).is_some_and(|sandbox| sandbox_of(own) == Some(sandbox)))
        {
            return Ok(());
        }
        let text = "web pages of other sites cannot call this port";
        Err(Failed(ApiError::new(ErrorCode::ForeignOrigin, text)))
    }

    /// Where else the client has to go, if it has: a directory's URL ends with a slash, a browser's page belongs on a host
    /// name, and there the token into a cookie.
    pub(super) fn elsewhere(
        &self,
        host: &Host,
        sandbox: SandboxId,
        port: u16,
        request: &Request<Body>,
    ) -> Option<Response> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let query = request
            .uri()
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let Some(path) = inner_path(request.uri()) else {
            return Some(redirect(
                StatusCode::PERMANENT_REDIRECT,
                &format!("{}/{query}", self.prefix),
            ));
        };
        let headers = request.headers();
        if !is_page_visit(headers) {
            return None;
        }
        let (scheme, authority) = (share::scheme(host, headers), authority(request)?);
        if self.way == Way::Name {
            let (token, grant) = (self.token.as_deref()?, self.grant.as_ref()?);
            // With the whole authority: a path may begin with two slashes.
            let mut response = redirect(StatusCode::FOUND, &format!("{scheme}://{authority}{path}{query}"));
            let cookie = share::cookie(token, grant, scheme);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            return Some(response);
        }
        // With a key in a header it is a program that plays the browser, and would come without it.
        let comes_again =
            self.grant.is_some() || (host.auth().is_open() && !headers.contains_key(header::AUTHORIZATION));
        let domain = host.config().ports_domain.as_ref();
        let domain = domain.filter(|domain| comes_again && domain.suits(&authority))?;
        let name = share::with_port_of(&domain.name(sandbox, port), &authority);
        let query = match (&self.token, query.as_str()) {
            (None, query) => query.to_owned(),
            (Some(token), "") => format!("?{COOKIE}={token}"),
            (Some(token), query) => format!("{query}&{COOKIE}={token}"),
        };
        Some(redirect(
            StatusCode::FOUND,
            &format!("{scheme}://{name}{path}{query}"),
        ))
    }
}

/// The path as the program is asked for it; `None` for the port without a slash behind it.
pub(super) fn inner_path(uri: &Uri) -> Option<&str> {
    let path = uri.path();
    let (at, _) = path.match_indices('/').nth(5)?;
    path.get(at..)
}

/// The host that a request is for, with its port.
pub(super) fn authority<B>(request: &Request<B>) -> Option<String> {
    let header = request.headers().get(header::HOST);
    let header = header.and_then(|host| host.to_str().ok());
    header
        .or_else(|| Some(request.uri().authority()?.as_str()))
        .map(str::to_owned)
}

/// Somebody looks at a page with a browser. Those that do not say so by themselves are known by what they ask for.
fn is_page_visit(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(header::UPGRADE) {
        return false;
    }
    match text(super::named("sec-fetch-mode")) {
        Some(mode) => mode == "navigate",
        None => {
            text(header::ACCEPT).is_some_and(|accept| accept.starts_with("text/html"))
                && text(header::USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla/"))
        }
    }
}

/// What is between a browser and the right place; nobody keeps it, and no other site learns where it was.
fn redirect(status: StatusCode, to: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(to) else {
        return super::super::error::not_found().into_response();
    };
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

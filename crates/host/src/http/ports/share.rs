//! URLs with a token: making them, reading them, and why one does not count.

use std::sync::Arc;

use api::{ApiError, ErrorCode, ShareRequest, SharedPort};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::{Extension, Json};

use super::super::body;
use super::super::error::{Failed, no_sandbox, not_found};
use super::super::front::sandbox_id;
use super::entrance::{Prefix, authority};
use super::port_of;
use crate::auth::Tenant;
use crate::clock;
use crate::host::Host;
use crate::ports::{Grant, NotGranted};

/// Before the token in a path.
pub(super) const PATH: &str = "/v1/shared/";
/// The token's name as a cookie, and in a query.
pub(super) const COOKIE: &str = "podflare_token";
/// Cookies of that name that are looked at: pages of other ports may add some.
const COOKIES_MAX: usize = 8;

pub(super) async fn share(
    State(host): State<Arc<Host>>,
    Extension(tenant): Extension<Tenant>,
    request: Request<Body>,
) -> Result<Json<SharedPort>, Failed> {
    let (id, port) = (sandbox_id(&request)?, port_of(&request)?);
    let place = Place::of(&host, &request);
    let (head, content) = request.into_parts();
    let wanted = ShareRequest::parse(&body::read(&head.headers, content).await?)?;
    let sandbox = host.find(id, tenant).ok_or_else(no_sandbox)?;
    let grant = Grant {
        tenant,
        sandbox: sandbox.id(),
        port,
        expires_at_ms: clock::now_ms() + u64::from(wanted.expires_in_seconds) * 1000,
    };
    let token = host.share_key().sign(&grant);
    let domain = host.config().ports_domain.as_ref();
    let host_url = domain
        .filter(|domain| domain.suits(place.authority()))
        .map(|domain| {
            let name = with_port_of(&domain.name(grant.sandbox, port), place.authority());
            format!("{}://{name}/?{COOKIE}={token}", place.scheme())
        });
    Ok(Json(SharedPort {
        url: format!("{}{PATH}{token}/", place.base),
        host_url,
        expires_at_ms: grant.expires_at_ms,
    }))
}

/// Answers to a path with a token that gives no leave.
pub(super) async fn refuse(State(host): State<Arc<Host>>, request: Request<Body>) -> Failed {
    let rest = request.uri().path().strip_prefix(PATH).unwrap_or_default();
    let token = rest.split('/').next().unwrap_or_default();
    match host.share_key().verify(token, clock::now_ms()) {
        Err(refusal) => not_granted(refusal),
        // It would have been turned into the port's path, unless that is too long.
        Ok(_) => not_found(),
    }
}

pub(super) fn not_granted(refusal: NotGranted) -> Failed {
    let (code, what) = match refusal {
        NotGranted::Forged => (ErrorCode::ShareInvalid, "this URL gives no leave"),
        NotGranted::Expired { .. } => (ErrorCode::ShareExpired, "this URL has expired"),
    };
    let hint = "ask whoever shared it for a new one: `podflare sandbox share`";
    Failed(ApiError::new(code, format!("{what}: {refusal}")).hint(hint))
}

/// Where clients reach this host, as far as it can tell.
struct Place {
    /// Without a slash at its end.
    base: String,
}

impl Place {
    fn of(host: &Host, request: &Request<Body>) -> Self {
        if let Some(endpoint) = &host.config().endpoint
            && endpoint.contains("://")
        {
            return Self {
                base: endpoint.trim_end_matches('/').to_owned(),
            };
        }
        let authority = authority(request).unwrap_or_else(|| host.config().address.to_string());
        let before = request.extensions().get::<Prefix>().cloned().unwrap_or_default();
        let scheme = scheme(host, request.headers());
        Self {
            base: format!("{scheme}://{authority}{}", before.0),
        }
    }

    fn scheme(&self) -> &str {
        self.base.split_once("://").map_or("http", |(scheme, _)| scheme)
    }

    fn authority(&self) -> &str {
        let rest = self.base.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}

/// What a proxy in front of this host says it was called by; otherwise as the operator has given its address.
pub(super) fn scheme(host: &Host, headers: &HeaderMap) -> &'static str {
    let said = headers.get(super::named("x-forwarded-proto"));
    match said.map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => {
            let endpoint = host.config().endpoint.as_deref();
            if endpoint.is_some_and(|endpoint| endpoint.starts_with("https://")) {
                "https"
            } else {
                "http"
            }
        }
    }
}

/// A name with the port that another one has.
pub(super) fn with_port_of(name: &str, authority: &str) -> String {
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    match port.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    }
}

/// The token in a query, and the query without it, its question mark included.
pub(super) fn take_token(query: Option<&str>) -> (Option<String>, String) {
    let Some(query) = query else {
        return (None, String::new());
    };
    let mut token = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(
            |pair| match pair.strip_prefix(COOKIE).and_then(|rest| rest.strip_prefix('=')) {
                Some(value) => {
                    token = Some(value.to_owned());
                    false
                }
                None => true,
            },
        )
        .collect();
    match (&token, rest.as_slice()) {
        (Some(_), []) => (token, String::new()),
        _ => (token, format!("?{}", rest.join("&"))),
    }
}

/// Tokens among the cookies.
pub(super) fn cookie_tokens(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .take(COOKIES_MAX)
        .collect()
}

/// For this host name alone, out of reach of scripts, until the token's time is over.
pub(super) fn cookie(token: &str, grant: &Grant, scheme: &str) -> HeaderValue {
    let left_s = grant.expires_at_ms.saturating_sub(clock::now_ms()) / 1000;
    let secure = if scheme == "https" { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={left_s}{secure}");
    // A token that was verified is base64.
    HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_taken_out_of_a_query_and_the_rest_stays_as_it_is() {
        let take = |query| take_token(Some(query));
        let some = |token: &str, rest: &str| (Some(token.to_owned()), rest.to_owned());
        assert_eq!(take_token(None), (None, String::new()));
        assert_eq!(take(""), (None, "?".to_owned()));
        assert_eq!(take("a=b&&c"), (None, "?a=b&&c".to_owned()));
        assert_eq!(take("podflare_token=x"), some("x", ""));
        assert_eq!(take("a=%20&podflare_token=x&b"), some("x", "?a=%20&b"));
        assert_eq!(take("podflare_tokens=x"), (None, "?podflare_tokens=x".to_owned()));
    }

    #[test]
    fn names_get_the_port_that_the_client_uses() {
        assert_eq!(with_port_of("a.localhost", "127.0.0.1:7070"), "a.localhost:7070");
        assert_eq!(with_port_of("a.example", "pods.example"), "a.example");
        assert_eq!(with_port_of("a.example", "[::1]"), "a.example");
    }

    proptest! {
        #[test]
        fn arbitrary_queries_never_panic(query in ".{0,60}") {
            take_token(Some(&query));
        }
    }
}

//! `/terminal`: a page that opens a sandbox's terminal in the browser.
//!
//! Everything it needs is compiled in, and its policy allows nothing else: no other site's code, style, picture or
//! frame, and connections only to this host. It holds no secret, so it is served to everybody; what it asks for needs the
//! key like any other call.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};

use super::error::only_get;

/// Nothing but what comes from here. `connect-src 'self'` includes WebSockets to this host (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// By path.
const FILES: [(&str, &str, &str); 6] = [
    ("/terminal", HTML, include_str!("../../terminal/index.html")),
    ("/terminal/app.js", SCRIPT, include_str!("../../terminal/app.js")),
    (
        "/terminal/keys.js",
        SCRIPT,
        include_str!("../../terminal/keys.js"),
    ),
    (
        "/terminal/screen.js",
        SCRIPT,
        include_str!("../../terminal/screen.js"),
    ),
    (
        "/terminal/parser.js",
        SCRIPT,
        include_str!("../../terminal/parser.js"),
    ),
    (
        "/terminal/style.css",
        STYLE,
        include_str!("../../terminal/style.css"),
    ),
];

/// A file of the page, if the path names one.
pub(super) fn answer(method: &Method, path: &str) -> Option<Response> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (_, kind, text) = FILES.iter().find(|(name, ..)| *name == path)?;
    if *method != Method::GET && *method != Method::HEAD {
        return Some(only_get(method, path));
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    Some((headers, Body::from(*text)).into_response())
}

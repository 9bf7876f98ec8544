//! `GET /openapi.json`, and `GET /docs`: the same for people. Both are made once, and nobody needs a key for them.

mod page;

use std::sync::LazyLock;

use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use super::error::only_get;

static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| api::document().to_string().into());
static PAGE: LazyLock<Bytes> = LazyLock::new(|| page::render(&api::document()).into());

/// The page holds no script and loads nothing, so that is all it may do.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The document that a path names, if it names one.
pub(super) fn answer(method: &Method, path: &str) -> Option<Response> {
    let (document, media_type): (&LazyLock<Bytes>, _) = match path {
        "/openapi.json" => (&OPENAPI, "application/json"),
        "/docs" | "/docs/" => (&PAGE, "text/html; charset=utf-8"),
        _ => return None,
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(only_get(method, path));
    }
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Some((headers, LazyLock::force(document).clone()).into_response())
}

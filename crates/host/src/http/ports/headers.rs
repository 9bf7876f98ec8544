//! Heads of messages that are passed on: what belongs to one connection stays there (RFC 9110, section 7.6.1), and what is
//! between the client and this host is no business of the guest's.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::entrance::{Entrance, Way};
use super::location::Public;
use super::{location, named, share};
use crate::http::browser;

/// Of a connection, whether or not `Connection` names them.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    named("keep-alive"),
    named("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

const FORWARDED_FOR: HeaderName = named("x-forwarded-for");
const FORWARDED_HOST: HeaderName = named("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = named("x-forwarded-proto");
const FORWARDED_PREFIX: HeaderName = named("x-forwarded-prefix");

/// What a server says about its whole origin. Below this API's paths the origin is this host's.
const OF_THE_ORIGIN: [HeaderName; 7] = [
    named("clear-site-data"),
    named("nel"),
    named("public-key-pins"),
    named("report-to"),
    named("reporting-endpoints"),
    named("service-worker-allowed"),
    header::STRICT_TRANSPORT_SECURITY,
];

/// A page that a guest serves below this API's paths has no origin: its scripts run, and are no more to this host than
/// those of any site.
const NO_ORIGIN: &str = "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts";

/// The protocol that a request wants its connection to be upgraded to.
pub(super) fn wanted_upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let asks = listed(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asks)
}

/// Takes out of a request what does not go to the guest, and adds what it is to know.
pub(super) fn to_guest(
    headers: &mut HeaderMap,
    entrance: &Entrance,
    public: &Public,
    remote: Option<SocketAddr>,
    knows: &dyn Fn(&[u8]) -> bool,
) {
    let upgrade = wanted_upgrade(headers).cloned();
    strip(headers);
    // The body is asked for by whoever reads it.
    headers.remove(header::EXPECT);
    // A key in this header has let the caller in, or would.
    if entrance.way == Way::Path
        || headers
            .get(header::AUTHORIZATION)
            .is_some_and(|value| knows(value.as_bytes()))
    {
        headers.remove(header::AUTHORIZATION);
    }
    keep_foreign_cookies(headers);
    keep_foreign_protocols(headers);
    if entrance.way != Way::Name {
        let host = format!("localhost:{}", public.port);
        headers.insert(header::HOST, value(&host));
    } else if let Some(host) = &public.authority {
        headers.insert(header::HOST, value(host));
    }
    if let Some(remote) = remote {
        let address = remote.ip().to_canonical().to_string();
        let before = headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok());
        let all = before.map_or(address.clone(), |before| format!("{before}, {address}"));
        headers.insert(FORWARDED_FOR, value(&all));
    }
    if !headers.contains_key(&FORWARDED_HOST)
        && let Some(host) = &public.authority
    {
        headers.insert(FORWARDED_HOST, value(host));
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(public.scheme));
    headers.remove(&FORWARDED_PREFIX);
    if !entrance.prefix.is_empty() {
        headers.insert(FORWARDED_PREFIX, value(&entrance.prefix));
    }
    match upgrade {
        Some(protocol) => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol);
        }
        // Each request has a connection of its own.
        None => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// The same for an answer on its way to the client.
pub(super) fn to_client(headers: &mut HeaderMap, entrance: &Entrance, public: &Public) {
    strip(headers);
    // It would send clients to where this host is not.
    headers.remove(header::ALT_SVC);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let elsewhere = headers
            .get(&name)
            .and_then(|place| public.rewritten(place.to_str().ok()?));
        if let Some(elsewhere) = elsewhere {
            headers.insert(name, value(&elsewhere));
        }
    }
    if let header::Entry::Occupied(cookies) = headers.entry(header::SET_COOKIE) {
        let (_, cookies) = cookies.remove_entry_mult();
        let kept: Vec<HeaderValue> = cookies
            .filter_map(|cookie| location::cookie(&cookie, &public.prefix))
            .collect();
        for cookie in kept {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    if entrance.way != Way::Name {
        for name in OF_THE_ORIGIN {
            headers.remove(name);
        }
        headers.append(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(NO_ORIGIN),
        );
    }
    if entrance.way == Way::Shared && !headers.contains_key(header::REFERRER_POLICY) {
        // The URL is what lets others in.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
}

pub(super) fn strip(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = listed(headers).filter_map(|name| name.parse().ok()).collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    // How a body is cut into pieces is each connection's own; and of two lengths only one is right.
    if headers.remove(header::TRANSFER_ENCODING).is_some() {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// What `Connection` names.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn keep_foreign_cookies(headers: &mut HeaderMap) {
    keep(headers, header::COOKIE, ';', "; ", |pair| {
        pair.split('=')
            .next()
            .is_none_or(|name| name.trim() != share::COOKIE)
    });
}

/// A browser offers its key to this host as a subprotocol.
fn keep_foreign_protocols(headers: &mut HeaderMap) {
    keep(headers, header::SEC_WEBSOCKET_PROTOCOL, ',', ", ", |protocol| {
        !protocol.starts_with(browser::KEY_PROTOCOL)
    });
}

/// Leaves of a list in a header what `keeps` says. One that needs no change is left as it is.
fn keep(
    headers: &mut HeaderMap,
    name: HeaderName,
    between: char,
    joined_by: &str,
    keeps: impl Fn(&str) -> bool,
) {
    let texts: Vec<String> = headers
        .get_all(&name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let parts = || texts.iter().flat_map(|text| text.split(between)).map(str::trim);
    if parts().all(&keeps) {
        return;
    }
    let kept: Vec<&str> = parts().filter(|part| keeps(part)).collect();
    headers.remove(&name);
    if !kept.is_empty() {
        headers.insert(name, value(&kept.join(joined_by)));
    }
}

/// What is put together here out of parts of headers and paths can stand in a header; anything else is left empty.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, text) in list {
            headers.append(*name, HeaderValue::from_str(text).unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let line =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_belongs_to_a_connection_stays_there() {
        let mut all = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "te"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("accept", "text/html"),
        ]);
        strip(&mut all);
        assert_eq!(lines(&all), ["accept: text/html"]);
    }

    #[test]
    fn an_upgrade_is_wanted_when_both_headers_say_so() {
        let wants = |list: &[_]| wanted_upgrade(&headers(list)).is_some();
        assert!(wants(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket")
        ]));
        assert!(!wants(&[("connection", "keep-alive"), ("upgrade", "websocket")]));
        assert!(!wants(&[("connection", "upgrade")]));
    }

    #[test]
    fn cookies_and_subprotocols_of_this_hosts_stay_here() {
        let mut all = headers(&[
            ("cookie", "a=1; podflare_token=x; b=\"2\""),
            ("cookie", "podflare_token=y"),
            ("sec-websocket-protocol", "chat, podflare.key.cGY"),
        ]);
        keep_foreign_cookies(&mut all);
        keep_foreign_protocols(&mut all);
        assert_eq!(
            lines(&all),
            ["cookie: a=1; b=\"2\"", "sec-websocket-protocol: chat"]
        );
        let mut only = headers(&[
            ("cookie", "podflare_token=x"),
            ("sec-websocket-protocol", "podflare.key.a"),
        ]);
        keep_foreign_cookies(&mut only);
        keep_foreign_protocols(&mut only);
        assert!(only.is_empty());
        let untouched = [("cookie", "a=1;b=podflare_token=3"), ("cookie", "c")];
        let mut others = headers(&untouched);
        keep_foreign_cookies(&mut others);
        assert_eq!(lines(&others), ["cookie: a=1;b=podflare_token=3", "cookie: c"]);
    }

    proptest! {
        #[test]
        fn arbitrary_lists_never_panic(connection in "[ -~]{0,40}", cookie in "[ -~]{0,40}") {
            let mut all = headers(&[("connection", &connection), ("cookie", &cookie)]);
            keep_foreign_cookies(&mut all);
            strip(&mut all);
        }
    }
}

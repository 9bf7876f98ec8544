//! What is different about callers that are web pages.
//!
//! A page of any site may send requests to a host that its visitor can reach, one on loopback included, and may open
//! WebSockets to it. Browsers say for which site they do it, so requests for other sites are refused; without a key that
//! is all that keeps them out. A page can also have its own name resolve to this host; then the name is the site's, and
//! a host without keys on loopback answers only to names that no site can have.
//!
//! Pages cannot set headers on a WebSocket. They offer the key as a subprotocol, which, other than a query, ends in no
//! log, and is never chosen.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use api::{ApiError, ErrorCode};
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::Failed;
use crate::auth::Mode;
use crate::ports::without_port;

/// Before the key, in base64 of the URL's alphabet without padding.
pub(super) const KEY_PROTOCOL: &str = "podflare.key.";

/// Ends of names that no name server of the Internet answers for (RFC 6761, RFC 6762, RFC 8375, RFC 9476 and ICANN's
/// reservation of `internal`).
const PRIVATE_NAMES: [&str; 6] = ["localhost", "local", "internal", "test", "home.arpa", "alt"];

/// Refuses what a page of another site asks.
pub(super) fn admit(headers: &HeaderMap, mode: Option<Mode>) -> Result<(), Failed> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if mode == Some(Mode::Loopback)
        && let Some(host) = host
        && !is_private(host)
    {
        let text = format!(
            "a host without API keys does not answer to the name {}",
            without_port(host)
        );
        let hint = "use 127.0.0.1 or localhost, or give the host keys with PODFLARE_API_KEYS";
        return Err(Failed(ApiError::new(ErrorCode::ForeignOrigin, text).hint(hint)));
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    if site.is_some_and(|(_, site)| host.is_some_and(|host| site.eq_ignore_ascii_case(host))) {
        return Ok(());
    }
    let text = "web pages of other sites cannot call this host";
    Err(Failed(ApiError::new(ErrorCode::ForeignOrigin, text)))
}

/// What proves who calls, in the form of an `Authorization` header.
pub(super) fn credential(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        return Some(Cow::Borrowed(authorization.as_bytes()));
    }
    if !headers.contains_key(header::UPGRADE) {
        return None;
    }
    let key = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| HeaderValue::to_str(value).ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(KEY_PROTOCOL))?;
    let key = URL_SAFE_NO_PAD.decode(key).ok()?;
    Some(Cow::Owned([&b"Bearer "[..], &key].concat()))
}

/// Whether no site of the Internet can have this name: addresses, names without a dot, and reserved ones.
fn is_private(host: &str) -> bool {
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let is_address = name.parse::<std::net::Ipv4Addr>().is_ok()
        || name.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok();
    let is_reserved = |reserved: &str| {
        let rest = name.strip_suffix(reserved);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    is_address || !name.contains('.') || PRIVATE_NAMES.iter().any(|reserved| is_reserved(reserved))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn pages_of_the_host_itself_are_let_in_and_others_are_not() {
        let ask = |host, origin, mode| {
            admit(
                &headers(&[(header::HOST, host), (header::ORIGIN, origin)]),
                Some(mode),
            )
            .is_ok()
        };
        assert!(ask("127.0.0.1:7070", "http://127.0.0.1:7070", Mode::Loopback));
        assert!(ask(
            "pods.example",
            "https://pods.example",
            Mode::Keys { count: 1 }
        ));
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:8080",
            "null",
            "",
            "http://127.0.0.1:7070.evil.example",
        ] {
            assert!(!ask("127.0.0.1:7070", origin, Mode::Loopback), "{origin}");
            assert!(!ask("127.0.0.1:7070", origin, Mode::Disabled), "{origin}");
        }
    }

    #[test]
    fn a_loopback_host_without_keys_answers_to_no_name_a_site_can_have() {
        let ask = |host, mode| admit(&headers(&[(header::HOST, host)]), Some(mode)).is_ok();
        for host in [
            "127.0.0.1:7070",
            "localhost",
            "[::1]:7070",
            "x",
            "a.localhost:1",
            "host.docker.internal:7070",
            "10.0.2.15",
        ] {
            assert!(ask(host, Mode::Loopback), "{host}");
        }
        for host in [
            "evil.example:7070",
            "127.0.0.1.evil.example",
            "localhost.evil.example.",
            "notlocal.host",
        ] {
            assert!(!ask(host, Mode::Loopback), "{host}");
            assert!(ask(host, Mode::Keys { count: 2 }), "{host}");
        }
        assert!(admit(&HeaderMap::new(), Some(Mode::Loopback)).is_ok());
    }

    #[test]
    fn a_key_comes_as_a_header_or_with_a_socket_as_a_subprotocol() {
        let protocols = "podflare.terminal.v1, podflare.key.cGZfbGl2ZV9h";
        let offered = (header::SEC_WEBSOCKET_PROTOCOL, protocols);
        let upgrade = (header::UPGRADE, "websocket");
        let found = |list: &[_]| credential(&headers(list)).map(|found| found.into_owned());
        assert_eq!(
            found(&[upgrade.clone(), offered.clone()]).unwrap(),
            b"Bearer pf_live_a"
        );
        assert_eq!(found(std::slice::from_ref(&offered)), None);
        let header = (header::AUTHORIZATION, "Bearer b");
        assert_eq!(found(&[upgrade.clone(), offered, header]).unwrap(), b"Bearer b");
        assert_eq!(
            found(&[upgrade, (header::SEC_WEBSOCKET_PROTOCOL, "podflare.key.$")]),
            None
        );
    }
}

//! Where a guest says that things are, as its clients have to see it.
//!
//! A program knows itself as `http://localhost:8080/`, or by the host name that the request had. Below a path of the API
//! its `/login` is `<prefix>/login`, its `http://localhost:8080/login` the same, and its cookies are for that path and
//! what is below. On a host name of its own only the address it has inside is wrong.

use axum::http::HeaderValue;

use super::share::COOKIE;
use crate::ports::without_port;

/// How clients reach a port.
#[derive(Clone, Debug)]
pub(super) struct Public {
    pub(super) scheme: &'static str,
    /// The host and its port.
    pub(super) authority: Option<String>,
    /// The path below which the port's paths are; empty on a host name of its own.
    pub(super) prefix: String,
    /// The port inside.
    pub(super) port: u16,
}

impl Public {
    /// A place as clients have to see it; `None` where it is right as it is.
    pub(super) fn rewritten(&self, place: &str) -> Option<String> {
        let Some((scheme, authority, path)) = absolute(place) else {
            let is_path = place.starts_with('/') && !place.starts_with("//");
            return (is_path && self.is_outside(place)).then(|| format!("{}{place}", self.prefix));
        };
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        if self.is_inner(scheme, authority) {
            return Some(match (self.prefix.as_str(), &self.authority) {
                ("", Some(authority)) => format!("{}://{authority}{path}", self.scheme),
                _ if self.is_outside(&path) => format!("{}{path}", self.prefix),
                _ => path,
            });
        }
        let is_public = self
            .authority
            .as_deref()
            .is_some_and(|own| own.eq_ignore_ascii_case(authority));
        (is_public && self.is_outside(&path)).then(|| format!("{}{path}", self.prefix))
    }

    /// Not below the prefix, where the port's own paths are. A program that heeds `X-Forwarded-Prefix` puts it there itself.
    fn is_outside(&self, path: &str) -> bool {
        is_outside(path, &self.prefix)
    }

    /// Whether an authority is what the program has inside the sandbox.
    fn is_inner(&self, scheme: &str, authority: &str) -> bool {
        let name = without_port(authority);
        let port = authority
            .strip_prefix(name)
            .and_then(|port| port.strip_prefix(':'));
        let port = match port {
            Some(port) => port.parse().ok(),
            None if scheme.eq_ignore_ascii_case("https") => Some(443),
            None => Some(80),
        };
        let is_here = ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"]
            .iter()
            .any(|here| here.eq_ignore_ascii_case(name));
        is_here && port == Some(self.port)
    }
}

/// Scheme, authority and the rest of a URL of HTTP.
fn absolute(place: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = place.split_once("://")?;
    if !["http", "https"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
    {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some((scheme, &rest[..end], &rest[end..]))
}

fn is_outside(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    !prefix.is_empty() && !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// A cookie that a guest sets, for the paths below `prefix`, and for the host that it came from alone. `None` for one that
/// it must not set.
pub(super) fn cookie(cookie: &HeaderValue, prefix: &str) -> Option<HeaderValue> {
    let text = std::str::from_utf8(cookie.as_bytes()).ok()?;
    let mut parts = text.split(';');
    let pair = parts.next()?;
    if pair.split('=').next()?.trim().eq_ignore_ascii_case(COOKIE) {
        return None;
    }
    let mut rewritten = pair.to_owned();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, path) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("domain") {
            continue;
        }
        rewritten.push(';');
        if name.eq_ignore_ascii_case("path") && path.starts_with('/') && is_outside(path, prefix) {
            rewritten.push_str(&format!(" Path={prefix}{path}"));
        } else {
            rewritten.push_str(part);
        }
    }
    HeaderValue::from_bytes(rewritten.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: &str = "/v1/sandboxes/x/ports/8080";

    fn below_a_path() -> Public {
        Public {
            scheme: "http",
            authority: Some("127.0.0.1:7070".to_owned()),
            prefix: PREFIX.to_owned(),
            port: 8080,
        }
    }

    fn on_a_name() -> Public {
        Public {
            scheme: "https",
            authority: Some("8080-sbx-x.example.org".to_owned()),
            prefix: String::new(),
            port: 8080,
        }
    }

    #[test]
    fn below_a_path_the_guests_own_places_get_the_prefix() {
        for (place, expected) in [
            ("/login?next=/", Some("/login?next=/")),
            ("http://localhost:8080/login", Some("/login")),
            ("HTTP://127.0.0.1:8080", Some("/")),
            ("http://[::1]:8080?a", Some("/?a")),
            ("http://127.0.0.1:7070/login", Some("/login")),
            ("login", None),
            ("../login", None),
            ("http://localhost:8081/", None),
            ("http://localhost/", None),
            ("https://example.org/login", None),
            ("//example.org/login", None),
            ("mailto:a@b", None),
            ("/v1/sandboxes/x/ports/8080/login", None),
            ("/v1/sandboxes/x/ports/8080", None),
            ("http://127.0.0.1:7070/v1/sandboxes/x/ports/8080/login", None),
            ("/v1/sandboxes/x/ports/80801", Some("/v1/sandboxes/x/ports/80801")),
        ] {
            let rewritten = below_a_path().rewritten(place);
            let expected = expected.map(|path| format!("{PREFIX}{path}"));
            assert_eq!(rewritten, expected, "{place}");
        }
        // The prefix is not put twice, whoever has put it there.
        let twice = format!("http://localhost:8080{PREFIX}/a");
        assert_eq!(below_a_path().rewritten(&twice), Some(format!("{PREFIX}/a")));
    }

    #[test]
    fn on_a_name_only_the_inner_address_is_replaced() {
        for (place, expected) in [
            (
                "http://localhost:8080/login",
                Some("https://8080-sbx-x.example.org/login"),
            ),
            // Whatever the path looks like, it stays on this host.
            (
                "http://localhost:8080//evil.example",
                Some("https://8080-sbx-x.example.org//evil.example"),
            ),
            ("/login", None),
            ("https://8080-sbx-x.example.org/login", None),
            ("https://example.org/", None),
        ] {
            assert_eq!(on_a_name().rewritten(place).as_deref(), expected, "{place}");
        }
    }

    #[test]
    fn cookies_are_for_the_port_alone() {
        let set = |text: &str, prefix: &str| {
            let cookie = cookie(&HeaderValue::from_str(text).unwrap(), prefix)?;
            Some(cookie.to_str().unwrap().to_owned())
        };
        assert_eq!(
            set("a=b; Path=/; HttpOnly; Domain=example.org", PREFIX).as_deref(),
            Some("a=b; Path=/v1/sandboxes/x/ports/8080/; HttpOnly")
        );
        assert_eq!(set("a=b", PREFIX).as_deref(), Some("a=b"));
        assert_eq!(
            set("a=b;path=/v1/sandboxes/x/ports/8080/c", PREFIX).as_deref(),
            Some("a=b;path=/v1/sandboxes/x/ports/8080/c")
        );
        assert_eq!(set("a=b; Path=/; domain=x", "").as_deref(), Some("a=b; Path=/"));
        for prefix in [PREFIX, ""] {
            assert_eq!(set("podflare_token=x; Path=/", prefix), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_places_and_cookies_never_panic(text in "[ -~]{0,60}") {
            below_a_path().rewritten(&text);
            on_a_name().rewritten(&text);
            cookie(&HeaderValue::from_str(&text).unwrap(), PREFIX);
        }

        #[test]
        fn what_is_rewritten_is_right_as_it_is(path in "[a-z/?#]{0,20}") {
            for place in [format!("/{path}"), format!("http://localhost:8080/{path}")] {
                if let Some(rewritten) = below_a_path().rewritten(&place) {
                    prop_assert_eq!(below_a_path().rewritten(&rewritten), None);
                }
            }
        }
    }
}

//! The name in the first bytes of an HTTP/1 request.

use egress::Name;

use crate::hello::Said;

/// More header fields than this no request has that we would pass on.
const FIELDS_MAX: usize = 64;

/// Looks at the beginning of a connection that is not one of TLS.
///
/// One `Host` field is needed, and a target that names a host must name the same: receivers differ in which of two
/// they believe (RFC 9112, 3.2.2).
pub(crate) fn name_in_head(bytes: &[u8]) -> Said {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return Said::Unfinished,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Said::Nothing,
    }
    let mut hosts = request
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("host"));
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Said::Nothing;
    };
    let Some(name) = name_of(host.value) else {
        return Said::Nothing;
    };
    let target = request.path.unwrap_or_default();
    match host_in_target(request.method.unwrap_or_default(), target) {
        Target::Path => Said::Name(name),
        Target::Host(other) if name_of(other.as_bytes()).as_ref() == Some(&name) => Said::Name(name),
        Target::Host(_) => Said::Nothing,
    }
}

enum Target<'a> {
    /// One that names no host.
    Path,
    Host(&'a str),
}

fn host_in_target<'a>(method: &str, target: &'a str) -> Target<'a> {
    if method == "CONNECT" {
        return Target::Host(target);
    }
    if target.starts_with('/') || target == "*" {
        return Target::Path;
    }
    let after = target.split_once("://").map_or(target, |(_, after)| after);
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    Target::Host(authority)
}

/// The name in `name` or `name:port`.
fn name_of(authority: &[u8]) -> Option<Name> {
    let authority = authority.trim_ascii();
    let mut parts = authority.splitn(2, |byte| *byte == b':');
    let name = parts.next()?;
    let digits = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    if !parts.next().is_none_or(digits) {
        return None;
    }
    Name::from_ascii(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_host_is_found_once_the_head_is_there() {
        let head = b"GET /a?b HTTP/1.1\r\nAccept: */*\r\nhOST: Example.com:8080\r\n\r\nbody";
        assert_eq!(name_in_head(head), Said::Name("example.com".parse().unwrap()));
        for cut in 0..head.len() - 4 {
            assert_eq!(name_in_head(&head[..cut]), Said::Unfinished, "{cut}");
        }
        for same in ["http://example.com/x", "http://EXAMPLE.com:80?y", "*"] {
            let head = format!("GET {same} HTTP/1.1\r\nHost: example.com\r\n\r\n");
            assert_eq!(
                name_in_head(head.as_bytes()),
                Said::Name("example.com".parse().unwrap()),
                "{same}"
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_has_no_name() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example@b.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\n b.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n",
            "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "GET http://a.example@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "CONNECT b.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "SSH-2.0-OpenSSH_9.9\r\n",
            "\u{1}\u{2}\u{3}",
        ] {
            assert_eq!(name_in_head(head.as_bytes()), Said::Nothing, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, text in "[A-Z]{1,5} [ -~]{0,20} HTTP/1.1\r\n(Host: [ -~]{0,20}\r\n){0,2}\r\n") {
            drop(name_in_head(&bytes));
            drop(name_in_head(text.as_bytes()));
        }
    }
}

//! A telemetry collector on the user's machine, as the software host reaches it.
//!
//! Inside the machine, loopback is the machine's own. QEMU's user network has the user's loopback at another address, so
//! an endpoint that names loopback is changed to that. Only the daemon is told; sandboxes have no way to that network.

use std::borrow::Cow;

/// The user's machine, in QEMU's user network.
const OUTSIDE: &str = "10.0.2.2";

const PREFIX: &str = "OTEL_EXPORTER_OTLP_";
const SUFFIX: &str = "ENDPOINT";

/// The value that a variable of the daemon's environment has inside.
pub(crate) fn seen_from_inside<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if !name.starts_with(PREFIX) || !name.ends_with(SUFFIX) {
        return value.into();
    }
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.into();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = match authority.rfind(':').filter(|_| !authority.ends_with(']')) {
        Some(at) => authority.split_at(at),
        None => (authority, ""),
    };
    let loops_back = host.eq_ignore_ascii_case("localhost")
        || host == "[::1]"
        || (host.starts_with("127.") && is_ipv4(host));
    if loops_back {
        format!("{scheme}://{OUTSIDE}{port}{path}").into()
    } else {
        value.into()
    }
}

fn is_ipv4(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_the_users_machine_and_other_hosts_are_what_they_are() {
        let inside = |value| seen_from_inside("OTEL_EXPORTER_OTLP_ENDPOINT", value).into_owned();
        assert_eq!(inside("http://127.0.0.1:4318"), "http://10.0.2.2:4318");
        assert_eq!(inside("http://localhost:4318/x?y"), "http://10.0.2.2:4318/x?y");
        assert_eq!(inside("http://[::1]"), "http://10.0.2.2");
        for other in [
            "http://collector:4318",
            "http://127.evil.example:1",
            "http://[::1",
            "nonsense",
            "",
        ] {
            assert_eq!(inside(other), other);
        }
        let other = seen_from_inside("PODFLARE_PUBLIC_URL", "http://127.0.0.1:7070");
        assert_eq!(other, "http://127.0.0.1:7070");
    }
}

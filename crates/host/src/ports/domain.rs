//! Host names that mean a port of a sandbox: `8080-sbx-0123….sandboxes.example.org`.
//!
//! Each of them is an origin of its own to a browser, so that a page that a guest serves can read neither this host's own
//! pages nor another sandbox's. An id has an underscore, which is none for host names; it is written as a hyphen, and
//! understood both ways.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use pod_types::SandboxId;
use thiserror::Error;

/// Longest label of a name (RFC 1035, section 2.3.4). A port and an id take 42.
const LABEL_MAX: usize = 63;
/// Longest domain: with the label in front and a dot it is a name of at most 253.
const DOMAIN_MAX: usize = 253 - LABEL_MAX - 1;

/// The domain below which names mean ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsDomain(String);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a domain such as sandboxes.example.org: letters, digits and hyphens between dots, at most \
     {DOMAIN_MAX} characters"
)]
pub struct NotADomain {
    text: String,
}

impl PortsDomain {
    /// Names that browsers themselves lead to this machine (RFC 6761), where it is reached by a loopback address.
    #[must_use]
    pub fn localhost() -> Self {
        Self("localhost".to_owned())
    }

    /// What a `Host` header means, if it is a name below the domain.
    pub(crate) fn find(&self, host: &str) -> Option<(SandboxId, u16)> {
        let name = without_port(host).trim_end_matches('.');
        let label = strip_suffix_ignoring_case(name, &self.0)?.strip_suffix('.')?;
        let (port, id) = label.split_once('-')?;
        let digits =
            strip_prefix_ignoring_case(id, "sbx-").or_else(|| strip_prefix_ignoring_case(id, "sbx_"))?;
        // Names are the same in capital letters; ids are not.
        let id = format!("{}{}", SandboxId::PREFIX, digits.to_ascii_lowercase());
        Some((id.parse().ok()?, port_number(port)?))
    }

    /// Whether a client that calls this host by that name finds names below the domain, too: `localhost` is each
    /// machine's own.
    pub(crate) fn suits(&self, authority: &str) -> bool {
        let is_local = |name: &str| name == "localhost" || name.ends_with(".localhost");
        if !is_local(&self.0) {
            return true;
        }
        let name = without_port(authority).to_ascii_lowercase();
        let name = name.trim_end_matches('.').trim_matches(['[', ']']);
        is_local(name) || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The name for a port of a sandbox.
    pub(crate) fn name(&self, sandbox: SandboxId, port: u16) -> String {
        let id = sandbox.to_string().replace('_', "-");
        format!("{port}-{id}.{}", self.0)
    }
}

impl FromStr for PortsDomain {
    type Err = NotADomain;

    fn from_str(text: &str) -> Result<Self, NotADomain> {
        let domain = text.trim().trim_matches('.').to_ascii_lowercase();
        let is_label = |label: &str| {
            let fits = (1..=LABEL_MAX).contains(&label.len());
            let inner = label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            fits && inner && !label.starts_with('-') && !label.ends_with('-')
        };
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        let is_domain = domain.len() <= DOMAIN_MAX
            && domain.split('.').all(is_label)
            // It would be an address.
            && !domain.rsplit('.').next().is_some_and(is_number);
        if is_domain {
            Ok(Self(domain))
        } else {
            Err(NotADomain {
                text: text.to_owned(),
            })
        }
    }
}

impl fmt::Display for PortsDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A port as it is written, and no other way: 1 to 65535 without a sign or zeros in front.
pub(crate) fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

/// The name in a `Host` header.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    end.eq_ignore_ascii_case(suffix).then_some(rest)
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGITS: &str = "0123456789abcdef0123456789abcdef";

    fn domain() -> PortsDomain {
        "sandboxes.example.org".parse().unwrap()
    }

    #[test]
    fn names_below_the_domain_mean_ports_however_the_id_is_written() {
        let id: SandboxId = format!("sbx_{DIGITS}").parse().unwrap();
        for host in [
            format!("8080-sbx-{DIGITS}.sandboxes.example.org"),
            format!("8080-sbx_{DIGITS}.sandboxes.example.org:7070"),
            format!("8080-SBX-{}.Sandboxes.Example.ORG.:80", DIGITS.to_uppercase()),
        ] {
            assert_eq!(domain().find(&host), Some((id, 8080)), "{host}");
        }
        assert_eq!(
            domain().name(id, 1),
            format!("1-sbx-{DIGITS}.sandboxes.example.org")
        );
    }

    #[test]
    fn other_names_mean_nothing() {
        for host in [
            String::new(),
            "sandboxes.example.org".to_owned(),
            format!("8080-sbx-{DIGITS}.example.org"),
            format!("8080-sbx-{DIGITS}.evil-sandboxes.example.org"),
            format!("8080-sbx-{DIGITS}sandboxes.example.org"),
            format!("x.8080-sbx-{DIGITS}.sandboxes.example.org"),
            format!("0-sbx-{DIGITS}.sandboxes.example.org"),
            format!("+80-sbx-{DIGITS}.sandboxes.example.org"),
            format!("080-sbx-{DIGITS}.sandboxes.example.org"),
            format!("65536-sbx-{DIGITS}.sandboxes.example.org"),
            format!("80-spc-{DIGITS}.sandboxes.example.org"),
            format!("80-sbx-{}.sandboxes.example.org", &DIGITS[1..]),
            "é.sandboxes.example.org".to_owned(),
        ] {
            assert_eq!(domain().find(&host), None, "{host}");
        }
    }

    #[test]
    fn localhost_is_for_clients_on_this_machine() {
        let local = PortsDomain::localhost();
        for here in [
            "localhost",
            "127.0.0.1:7070",
            "[::1]:7070",
            "LOCALHOST.:1",
            "8080-x.localhost",
        ] {
            assert!(local.suits(here), "{here}");
        }
        for elsewhere in [
            "10.0.0.1:7070",
            "host.docker.internal:7070",
            "notlocalhost",
            "localhost.evil.example",
        ] {
            assert!(
                !local.suits(elsewhere) && domain().suits(elsewhere),
                "{elsewhere}"
            );
        }
    }

    #[test]
    fn a_domain_is_letters_digits_and_hyphens_between_dots() {
        for good in ["localhost", "a.b-c.D", ".example.org.", "xn--bcher-kva.example"] {
            good.parse::<PortsDomain>().unwrap();
        }
        let long = "a.".repeat(100);
        for bad in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a:80",
            "https://a",
            "*.a",
            "10.0.0.1",
            "é",
            &long,
        ] {
            let refusal = bad.parse::<PortsDomain>().unwrap_err().to_string();
            assert!(refusal.contains("is not a domain"), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_found_again(bytes: [u8; 16], port in 1..=u16::MAX) {
            let (id, name) = (SandboxId::from(bytes), domain().name(bytes.into(), port));
            prop_assert_eq!(domain().find(&name), Some((id, port)));
            prop_assert!(name.split('.').all(|label| label.len() <= LABEL_MAX));
        }

        #[test]
        fn arbitrary_hosts_never_panic(host in ".{0,80}") {
            domain().find(&host);
        }
    }
}

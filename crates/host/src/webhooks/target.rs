//! Where a webhook goes, as far as its URL tells.

use std::net::IpAddr;

use thiserror::Error;
use url::{Host, Url};

use super::address::{AddressRefused, Allowed};

/// A URL that is fit to be sent to, as far as can be seen without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    pub(crate) place: Place,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
    /// The `Host` header.
    pub(crate) authority: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Name(String),
    Address(IpAddr),
}

#[derive(Debug, Error)]
pub(crate) enum TargetError {
    #[error("it is no URL")]
    Url(#[source] url::ParseError),
    #[error("expected http:// or https://, got {0}://")]
    Scheme(String),
    #[error("user and password do not belong into it: everybody who may list webhooks would see them")]
    Credentials,
    #[error("it names no host")]
    NoHost,
    #[error(transparent)]
    Refused(AddressRefused),
}

impl Target {
    /// An address that may not be used is refused here already; a name shows when it is sent to.
    pub(crate) fn parse(text: &str, allowed: &Allowed) -> Result<Self, TargetError> {
        let url = Url::parse(text).map_err(TargetError::Url)?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(TargetError::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        let place = match url.host().ok_or(TargetError::NoHost)? {
            Host::Domain(name) => Place::Name(name.to_owned()),
            Host::Ipv4(address) => Place::Address(address.into()),
            Host::Ipv6(address) => Place::Address(address.into()),
        };
        if let Place::Address(address) = &place {
            allowed.judge(*address).map_err(TargetError::Refused)?;
        }
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        let host = url.host_str().unwrap_or_default();
        let authority = url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        Ok(Self {
            tls,
            place,
            port,
            path,
            authority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let error = Target::parse(text, &Allowed::default()).unwrap_err();
        pod_types::ErrorChain(&error).to_string()
    }

    #[test]
    fn a_url_is_taken_apart() {
        let none = Allowed::default();
        let target = Target::parse("https://Hooks.Example.com/a%20b?c=d#e", &none).unwrap();
        assert_eq!(target.place, Place::Name("hooks.example.com".to_owned()));
        assert_eq!((target.port, target.tls), (443, true));
        assert_eq!(target.path, "/a%20b?c=d");
        assert_eq!(target.authority, "hooks.example.com");
        let target = Target::parse("http://8.8.8.8:8080", &none).unwrap();
        assert_eq!(
            (target.path.as_str(), target.authority.as_str()),
            ("/", "8.8.8.8:8080")
        );
    }

    #[test]
    fn what_is_no_receiver_is_refused_with_the_reason() {
        assert!(refusal("hooks.example.com/x").starts_with("it is no URL"));
        assert!(refusal("ftp://example.com").contains("ftp"));
        assert!(refusal("file:///etc/passwd").contains("file"));
        assert!(refusal("https://me:secret@example.com").contains("password"));
        assert!(refusal("https://me@example.com").contains("password"));
    }

    #[test]
    fn an_address_is_recognized_however_it_is_written() {
        for text in [
            "http://127.0.0.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://１２７.０.０.１/",
        ] {
            assert!(refusal(text).contains("not public"), "{text}: {}", refusal(text));
        }
    }
}

//! The secrets of a wire, checked before they are used.

use std::sync::{Arc, Mutex, PoisonError};

use egress::Name;
use net_proto::{PLACEHOLDER_BYTES_MIN, SECRET_BYTES_MAX, SECRETS_MAX, Secret};
use thiserror::Error;

/// A rule without a port means this one.
const HTTPS_PORT: u16 = 443;

/// Most rules for hosts of one secret.
const HOSTS_MAX: usize = 64;

/// All secrets of a wire, that with the longest placeholder first: where one begins with another, the longer is meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecretSet(Vec<Arc<Secret>>);

/// Those of them that are for one name and port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bound(Vec<Arc<Secret>>);

/// What a connection may use, which can grow while it is there.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Bound>>);

/// Which secret it is, counted from 1, and what is wrong with it.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum InvalidSecrets {
    #[error("there are more than {SECRETS_MAX} secrets")]
    TooMany,
    #[error(
        "the placeholder of secret {0} is not of {PLACEHOLDER_BYTES_MIN} to {SECRET_BYTES_MAX} visible ASCII characters"
    )]
    Placeholder(usize),
    #[error("the placeholder of secret {0} is that of another, too")]
    Twice(usize),
    #[error(
        "the value of secret {0} is not of 1 to {SECRET_BYTES_MAX} bytes that can be in a header field, or has a space at an end"
    )]
    Value(usize),
    #[error("secret {0} is for no host, or for more than {HOSTS_MAX}")]
    Hosts(usize),
}

impl SecretSet {
    /// # Errors
    /// One of them cannot be used; nothing of it is told but its number.
    pub(crate) fn new(secrets: Vec<Secret>) -> Result<Self, InvalidSecrets> {
        if secrets.len() > SECRETS_MAX {
            return Err(InvalidSecrets::TooMany);
        }
        let mut set = Self::default();
        for (number, secret) in (1..).zip(secrets) {
            set.check(number, &secret)?;
            set.0.push(Arc::new(secret));
        }
        set.0
            .sort_by_key(|secret| std::cmp::Reverse(secret.placeholder.len()));
        Ok(set)
    }

    fn check(&self, number: usize, secret: &Secret) -> Result<(), InvalidSecrets> {
        let placeholder = secret.placeholder.as_bytes();
        let long = (PLACEHOLDER_BYTES_MIN..=SECRET_BYTES_MAX).contains(&placeholder.len());
        if !long || !placeholder.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidSecrets::Placeholder(number));
        }
        if self.0.iter().any(|other| other.placeholder == secret.placeholder) {
            return Err(InvalidSecrets::Twice(number));
        }
        let value = secret.value.reveal().as_bytes();
        let fits = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
        let bare = value.trim_ascii().len() == value.len();
        if !(1..=SECRET_BYTES_MAX).contains(&value.len()) || !bare || !value.iter().all(fits) {
            return Err(InvalidSecrets::Value(number));
        }
        if !(1..=HOSTS_MAX).contains(&secret.hosts.len()) {
            return Err(InvalidSecrets::Hosts(number));
        }
        Ok(())
    }

    /// Whether a connection to this port may be one for a secret.
    pub(crate) fn binds_port(&self, port: u16) -> bool {
        let mut hosts = self.0.iter().flat_map(|secret| &secret.hosts);
        hosts.any(|rule| rule.port.unwrap_or(HTTPS_PORT) == port)
    }

    pub(crate) fn bound_to(&self, name: &Name, port: u16) -> Bound {
        let is_for = |secret: &&Arc<Secret>| {
            let mut hosts = secret.hosts.iter();
            hosts.any(|rule| rule.port.unwrap_or(HTTPS_PORT) == port && rule.matches_name(name))
        };
        Bound(self.0.iter().filter(is_for).cloned().collect())
    }
}

impl Bound {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter().map(|secret| &**secret)
    }

    /// Whether everything that can be sent with the other can be with this one.
    fn covers(&self, other: &Self) -> bool {
        let has = |secret: &Secret| {
            self.iter()
                .any(|own| own.placeholder == secret.placeholder && own.value == secret.value)
        };
        other.iter().all(has)
    }
}

impl Shared {
    pub(crate) fn new(bound: Bound) -> Self {
        Self(Arc::new(Mutex::new(bound)))
    }

    pub(crate) fn now(&self) -> Bound {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses these from now on. False, and nothing is changed, if that would leave one out which was in use.
    pub(crate) fn grow(&self, bound: Bound) -> bool {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !bound.covers(&own) {
            return false;
        }
        *own = bound;
        true
    }
}

#[cfg(test)]
mod tests {
    use net_proto::SecretValue;

    use super::*;

    fn secret(placeholder: &str, value: &str, hosts: &[&str]) -> Secret {
        Secret {
            placeholder: placeholder.to_owned(),
            value: SecretValue::new(value.to_owned()),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn what_cannot_be_sent_safely_is_refused_and_not_shown() {
        let good = || secret("{{TOKEN}}", "hunter2", &["a.example"]);
        for (bad, error) in [
            (
                secret("short", "v", &["a.example"]),
                InvalidSecrets::Placeholder(2),
            ),
            (
                secret("with space", "v", &["a.example"]),
                InvalidSecrets::Placeholder(2),
            ),
            (good(), InvalidSecrets::Twice(2)),
            (secret("{{OTHER}}", "", &["a.example"]), InvalidSecrets::Value(2)),
            (
                secret("{{OTHER}}", "a\r\nb", &["a.example"]),
                InvalidSecrets::Value(2),
            ),
            (
                secret("{{OTHER}}", " a", &["a.example"]),
                InvalidSecrets::Value(2),
            ),
            (secret("{{OTHER}}", "v", &[]), InvalidSecrets::Hosts(2)),
        ] {
            assert_eq!(SecretSet::new(vec![good(), bad]).unwrap_err(), error);
        }
        assert!(!format!("{:?}", SecretSet::new(vec![good()]).unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_secret_is_for_its_hosts_on_the_port_of_https_or_on_their_own() {
        let set = SecretSet::new(vec![secret("{{TOKEN}}", "v", &["*.a.example", "b.example:8443"])]).unwrap();
        let bound = |name: &str, port| !set.bound_to(&name.parse().unwrap(), port).is_empty();
        assert!(bound("x.a.example", 443) && bound("b.example", 8443));
        assert!(!bound("a.example", 443) && !bound("b.example", 443) && !bound("x.a.example", 8443));
        assert!(set.binds_port(443) && set.binds_port(8443) && !set.binds_port(80));
    }

    #[test]
    fn what_is_in_use_may_get_more_but_not_less_or_other() {
        let (one, two) = (
            secret("{{TOKEN}}", "v", &["a.example"]),
            secret("{{OTHER}}", "w", &["a.example"]),
        );
        let bound = |secrets: &[&Secret]| {
            let set = SecretSet::new(secrets.iter().copied().cloned().collect()).unwrap();
            set.bound_to(&"a.example".parse().unwrap(), 443)
        };
        let shared = Shared::new(bound(&[&one]));
        assert!(shared.grow(bound(&[&two, &one])));
        assert!(!shared.grow(bound(&[&one])));
        assert!(!shared.grow(bound(&[&one, &secret("{{OTHER}}", "x", &["a.example"])])));
        assert_eq!(shared.now().iter().count(), 2);
    }
}

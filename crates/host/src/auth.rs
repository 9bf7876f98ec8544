//! Who may call: bearer keys from an allow-list, or nobody asked on loopback.

use std::fmt;
use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// What the operator says about authentication.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// Comma-separated keys; each admits its holder, as a tenant of its own.
    pub keys: Option<String>,
    /// Ask nobody for a key, whatever the address.
    pub disabled: bool,
}

/// How calls are authenticated.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Digests of the keys; empty when nobody is asked.
    keys: Vec<[u8; 32]>,
    mode: Mode,
}

/// How it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Keys {
        count: usize,
    },
    /// No keys, and only this machine can call.
    Loopback,
    /// The operator has turned it off.
    Disabled,
}

/// Whose a sandbox is. A key is a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenant {
    /// Nobody was asked; sees everything.
    Anyone,
    Key([u8; 32]),
}

#[derive(Debug, Error)]
pub enum AuthConfigError {
    #[error(
        "{address} can be reached from other machines and no API key is set; set PODFLARE_API_KEYS (comma-separated), \
         listen on a loopback address, or set PODFLARE_AUTH_DISABLED=1 to let everybody in"
    )]
    Open { address: SocketAddr },
    #[error("PODFLARE_API_KEYS is set and holds no key; unset it or put keys in it")]
    NoKeys,
}

/// Why a call is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing,
    Unknown,
}

impl Auth {
    /// Decides by the address that clients reach, which is not the one listened on behind a forwarder.
    ///
    /// # Errors
    /// Others could call without a key.
    pub fn new(config: &AuthConfig, address: SocketAddr) -> Result<Self, AuthConfigError> {
        let keys: Vec<_> = config.keys.as_deref().into_iter().flat_map(digests).collect();
        if config.disabled {
            return Ok(Self {
                keys: Vec::new(),
                mode: Mode::Disabled,
            });
        }
        // An empty variable is how shells unset one; one of only commas is a mistake.
        let meant = config.keys.as_deref().is_some_and(|keys| !keys.trim().is_empty());
        match keys.len() {
            0 if meant => Err(AuthConfigError::NoKeys),
            0 if address.ip().is_loopback() => Ok(Self {
                keys,
                mode: Mode::Loopback,
            }),
            0 => Err(AuthConfigError::Open { address }),
            count => Ok(Self {
                keys,
                mode: Mode::Keys { count },
            }),
        }
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Checks an `Authorization` header's value.
    pub(crate) fn admit(&self, header: Option<&[u8]>) -> Result<Tenant, Refusal> {
        if self.keys.is_empty() {
            return Ok(Tenant::Anyone);
        }
        let key = header.and_then(bearer).ok_or(Refusal::Missing)?;
        let digest: [u8; 32] = Sha256::digest(key).into();
        // Every key is compared whole: how long this takes tells nothing about which one was nearly right.
        let mut known = subtle::Choice::from(0);
        for key in &self.keys {
            known |= key.ct_eq(&digest);
        }
        if bool::from(known) {
            Ok(Tenant::Key(digest))
        } else {
            Err(Refusal::Unknown)
        }
    }
}

impl Tenant {
    pub(crate) fn may_see(self, owner: Self) -> bool {
        self == Self::Anyone || self == owner
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys { count: 1 } => f.write_str("1 API key"),
            Self::Keys { count } => write!(f, "{count} API keys"),
            Self::Loopback => f.write_str("off (loopback only)"),
            Self::Disabled => f.write_str("DISABLED"),
        }
    }
}

fn digests(keys: &str) -> impl Iterator<Item = [u8; 32]> {
    keys.split(',')
        .map(str::trim)
        .filter(|key| !key.is_empty())
        .map(|key| Sha256::digest(key).into())
}

/// The key of `Bearer <key>`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_first_chunk::<7>()?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(keys: Option<&str>, disabled: bool, address: &str) -> Result<Auth, AuthConfigError> {
        let config = AuthConfig {
            keys: keys.map(str::to_owned),
            disabled,
        };
        Auth::new(&config, address.parse().unwrap())
    }

    #[test]
    fn without_keys_only_loopback_starts() {
        for address in ["127.0.0.1:7070", "[::1]:7070"] {
            assert_eq!(auth(None, false, address).unwrap().mode(), Mode::Loopback);
            assert_eq!(auth(Some(""), false, address).unwrap().mode(), Mode::Loopback);
        }
        for address in ["0.0.0.0:7070", "192.0.2.1:7070", "[::]:7070"] {
            let refusal = auth(None, false, address).unwrap_err().to_string();
            assert!(refusal.contains("PODFLARE_API_KEYS"), "{refusal}");
            assert_eq!(auth(None, true, address).unwrap().mode(), Mode::Disabled);
        }
        assert!(matches!(
            auth(Some(" , "), false, "127.0.0.1:1"),
            Err(AuthConfigError::NoKeys)
        ));
    }

    #[test]
    fn every_listed_key_admits_and_sees_only_its_own() {
        let auth = auth(Some("pf_live_a, pf_live_b"), false, "127.0.0.1:7070").unwrap();
        let a = auth.admit(Some(b"Bearer pf_live_a")).unwrap();
        let b = auth.admit(Some(b"bearer  pf_live_b ")).unwrap();
        assert!(a.may_see(a) && !a.may_see(b) && Tenant::Anyone.may_see(a));
        for header in [None, Some(&b""[..]), Some(b"Bearer "), Some(b"Basic pf_live_a")] {
            assert_eq!(auth.admit(header), Err(Refusal::Missing));
        }
        for key in ["pf_live_c", "pf_live_a,pf_live_b", "pf_live_"] {
            let header = format!("Bearer {key}");
            assert_eq!(auth.admit(Some(header.as_bytes())), Err(Refusal::Unknown));
        }
    }
}

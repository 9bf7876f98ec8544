//! Who may call: holders of keys, or anybody on loopback; and the operator, by a token of its own.

use std::fmt;
use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// What the operator says about authentication.
#[derive(Clone, Default)]
pub struct AuthConfig {
    /// Comma-separated keys; each admits its holder, as a tenant of its own.
    pub keys: Option<String>,
    /// Ask nobody for a key, whatever the address.
    pub disabled: bool,
    /// Ask everybody for a key, also on loopback.
    pub required: bool,
    /// What opens `/v1/admin`; nothing does without.
    pub operator_token: Option<String>,
}

/// How calls are authenticated.
#[derive(Clone, Debug)]
pub struct Auth {
    mode: Mode,
    /// Digest of the operator's token.
    operator: Option<[u8; 32]>,
}

/// How it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Keys {
        count: usize,
    },
    /// No keys are asked for, and only this machine can call.
    Loopback,
    /// The operator has turned it off.
    Disabled,
}

/// Whose a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tenant(pub(crate) i64);

#[derive(Debug, Error)]
pub enum AuthConfigError {
    #[error(
        "{address} can be reached from other machines and there is no API key; make one with `podflare key create` while \
         listening on a loopback address, set PODFLARE_API_KEYS (comma-separated), or set PODFLARE_AUTH_DISABLED=1 to \
         let everybody in"
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
    /// Its checksum is wrong.
    Mistyped,
    /// It was valid once.
    Revoked,
}

impl AuthConfig {
    /// Digests of the keys of the environment.
    pub(crate) fn environment_keys(&self) -> impl Iterator<Item = [u8; 32]> {
        let keys = if self.disabled { None } else { self.keys.as_deref() };
        let keys = keys.unwrap_or_default().split(',').map(str::trim);
        keys.filter(|key| !key.is_empty())
            .map(|key| Sha256::digest(key).into())
    }
}

impl Auth {
    /// Decides by the address that clients reach, which is not the one listened on behind a forwarder, and by how many
    /// keys would let somebody in.
    ///
    /// # Errors
    /// Others could call without a key.
    pub(crate) fn new(
        config: &AuthConfig,
        address: SocketAddr,
        valid_keys: usize,
    ) -> Result<Self, AuthConfigError> {
        // An empty variable is how shells unset one; one of only commas is a mistake.
        let meant = config.keys.as_deref().is_some_and(|keys| !keys.trim().is_empty());
        let listed = config.environment_keys().count();
        let mode = if config.disabled {
            Mode::Disabled
        } else if meant && listed == 0 {
            return Err(AuthConfigError::NoKeys);
        } else if address.ip().is_loopback() && listed == 0 && !config.required {
            Mode::Loopback
        } else if address.ip().is_loopback() || valid_keys > 0 {
            Mode::Keys { count: valid_keys }
        } else {
            return Err(AuthConfigError::Open { address });
        };
        let token = config.operator_token.as_deref().map(str::trim);
        let token = token.filter(|token| !token.is_empty());
        Ok(Self {
            mode,
            operator: token.map(|token| Sha256::digest(token).into()),
        })
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether calls without a key are let in.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.mode, Mode::Loopback | Mode::Disabled)
    }

    /// Whether there is an operator's token at all.
    pub(crate) fn has_operator(&self) -> bool {
        self.operator.is_some()
    }

    /// Whether an `Authorization` header's value has the operator's token, which is asked for in every mode.
    pub(crate) fn is_operator(&self, header: Option<&[u8]>) -> bool {
        let (Some(operator), Some(token)) = (self.operator, header.and_then(bearer)) else {
            return false;
        };
        let digest: [u8; 32] = Sha256::digest(token).into();
        bool::from(operator.ct_eq(&digest))
    }
}

impl Tenant {
    pub(crate) fn may_see(self, owner: Self) -> bool {
        self == owner
    }
}

/// The key of `Bearer <key>`; the scheme's case does not matter (RFC 9110, section 11.1).
pub(crate) fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_first_chunk::<7>()?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
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

/// Settings end up in logs; keys do not.
impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("keys", &self.environment_keys().count())
            .field("disabled", &self.disabled)
            .field("required", &self.required)
            .field("operator_token", &self.operator_token.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(config: &AuthConfig, address: &str, stored: usize) -> Result<Mode, AuthConfigError> {
        let valid = stored + config.environment_keys().count();
        Auth::new(config, address.parse().unwrap(), valid).map(|auth| auth.mode())
    }

    fn keys(keys: &str) -> AuthConfig {
        AuthConfig {
            keys: Some(keys.to_owned()),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn without_keys_only_loopback_starts() {
        let disabled = AuthConfig {
            disabled: true,
            ..AuthConfig::default()
        };
        for address in ["127.0.0.1:7070", "[::1]:7070"] {
            assert_eq!(mode(&AuthConfig::default(), address, 0).unwrap(), Mode::Loopback);
            // A key of the store does not shut the door of a host of one's own.
            assert_eq!(mode(&keys(""), address, 1).unwrap(), Mode::Loopback);
        }
        for address in ["0.0.0.0:7070", "192.0.2.1:7070", "[::]:7070"] {
            let refusal = mode(&AuthConfig::default(), address, 0).unwrap_err().to_string();
            assert!(refusal.contains("PODFLARE_API_KEYS"), "{refusal}");
            assert_eq!(mode(&disabled, address, 0).unwrap(), Mode::Disabled);
            assert_eq!(
                mode(&AuthConfig::default(), address, 2).unwrap(),
                Mode::Keys { count: 2 }
            );
        }
        assert!(matches!(
            mode(&keys(" , "), "127.0.0.1:1", 0),
            Err(AuthConfigError::NoKeys)
        ));
    }

    #[test]
    fn keys_are_asked_for_on_loopback_when_there_are_some_in_the_environment_or_it_is_said_so() {
        let required = AuthConfig {
            required: true,
            ..AuthConfig::default()
        };
        assert_eq!(
            mode(&keys("a, b"), "127.0.0.1:1", 0).unwrap(),
            Mode::Keys { count: 2 }
        );
        assert_eq!(
            mode(&required, "127.0.0.1:1", 0).unwrap(),
            Mode::Keys { count: 0 }
        );
        mode(&required, "0.0.0.0:1", 0).unwrap_err();
    }

    #[test]
    fn only_the_operators_token_is_the_operators_token() {
        let config = AuthConfig {
            keys: Some("pf_live_a".to_owned()),
            operator_token: Some("pf_op_x".to_owned()),
            ..AuthConfig::default()
        };
        let auth = Auth::new(&config, "127.0.0.1:1".parse().unwrap(), 1).unwrap();
        assert!(auth.is_operator(Some(b"bearer  pf_op_x ")));
        for header in [
            None,
            Some(&b"Bearer pf_live_a"[..]),
            Some(b"Bearer "),
            Some(b"pf_op_x"),
        ] {
            assert!(!auth.is_operator(header));
        }
        let none = Auth::new(&AuthConfig::default(), "127.0.0.1:1".parse().unwrap(), 0).unwrap();
        assert!(!none.is_operator(Some(b"Bearer ")) && !none.has_operator());
    }

    #[test]
    fn settings_are_printed_without_their_secrets() {
        let text = format!("{:?}", keys("pf_live_secret"));
        assert!(!text.contains("secret"), "{text}");
    }
}

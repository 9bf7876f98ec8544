//! Leave to use one port of one sandbox for a while, as a text that can be passed on.
//!
//! ```text
//!  token = base64url( 1 │ tenant │ sandbox │ port │ expiry │ HMAC-SHA256 of what comes before )
//!          bytes:     1     8        16       2       8      32
//! ```
//!
//! Nothing is remembered of tokens: whoever has one that this host has signed and whose time is not over may use what it
//! names, if it still exists. The key is drawn once for a data directory, so tokens outlive the daemon. Ids are never used
//! twice, so a fork's or another sandbox's are not meant.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use pod_types::SandboxId;
use sha2::Sha256;
use thiserror::Error;

use crate::auth::Tenant;

/// Raise it when what is signed changes.
const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
/// Of SHA-256.
const BLOCK_BYTES: usize = 64;
const CLAIM_BYTES: usize = 1 + 8 + 16 + 2 + 8;
const MAC_BYTES: usize = 32;

/// What tokens are signed with.
pub(crate) struct ShareKey([u8; KEY_BYTES]);

/// What a token gives leave for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) tenant: Tenant,
    pub(crate) sandbox: SandboxId,
    pub(crate) port: u16,
    /// Milliseconds since the Unix epoch.
    pub(crate) expires_at_ms: u64,
}

/// Why a text gives no leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NotGranted {
    #[error("it was not made by this host, or was changed or cut")]
    Forged,
    #[error("its time ended {ago_s} s ago")]
    Expired { ago_s: u64 },
}

impl ShareKey {
    /// The key of a data directory, which is made when there is none yet.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match File::open(path) {
            Ok(mut file) => {
                let mut key = [0; KEY_BYTES];
                file.read_exact(&mut key)?;
                Ok(Self(key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        }
    }

    /// Whole or not at all: half a key would be taken for one.
    fn make(path: &Path) -> io::Result<Self> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|_| io::Error::other("the system gave no randomness"))?;
        let draft = path.with_extension("draft");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        Ok(Self(key))
    }

    pub(crate) fn sign(&self, grant: &Grant) -> String {
        let mut bytes = grant.claim().to_vec();
        bytes.extend(self.mac(&bytes).finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a text gives leave for at that time, in milliseconds since the Unix epoch.
    pub(crate) fn verify(&self, token: &str, now_ms: u64) -> Result<Grant, NotGranted> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| NotGranted::Forged)?;
        let (claim, mac) = bytes
            .split_first_chunk::<CLAIM_BYTES>()
            .filter(|(_, mac)| mac.len() == MAC_BYTES)
            .ok_or(NotGranted::Forged)?;
        // In constant time.
        self.mac(claim)
            .verify_slice(mac)
            .map_err(|_| NotGranted::Forged)?;
        let grant = Grant::read(claim).ok_or(NotGranted::Forged)?;
        if now_ms >= grant.expires_at_ms {
            let ago_s = (now_ms - grant.expires_at_ms) / 1000;
            return Err(NotGranted::Expired { ago_s });
        }
        Ok(grant)
    }

    fn mac(&self, claim: &[u8]) -> Hmac<Sha256> {
        // A key is filled up with zeros to a block of the hash (RFC 2104).
        let mut block = [0; BLOCK_BYTES];
        block[..KEY_BYTES].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        // Signatures of anything else that this key may come to sign are none of tokens.
        mac.update(b"podflare port share\0");
        mac.update(claim);
        mac
    }
}

impl Grant {
    fn claim(&self) -> [u8; CLAIM_BYTES] {
        let mut claim = [0; CLAIM_BYTES];
        claim[0] = VERSION;
        claim[1..9].copy_from_slice(&self.tenant.0.to_le_bytes());
        claim[9..25].copy_from_slice(&self.sandbox.bytes());
        claim[25..27].copy_from_slice(&self.port.to_le_bytes());
        claim[27..].copy_from_slice(&self.expires_at_ms.to_le_bytes());
        claim
    }

    fn read(claim: &[u8; CLAIM_BYTES]) -> Option<Self> {
        let (version, rest) = claim.split_first()?;
        let (tenant, rest) = rest.split_first_chunk()?;
        let (sandbox, rest) = rest.split_first_chunk::<16>()?;
        let (port, rest) = rest.split_first_chunk()?;
        let expiry = rest.first_chunk()?;
        (*version == VERSION).then(|| Self {
            tenant: Tenant(i64::from_le_bytes(*tenant)),
            sandbox: SandboxId::from(*sandbox),
            port: u16::from_le_bytes(*port),
            expires_at_ms: u64::from_le_bytes(*expiry),
        })
    }
}

impl std::fmt::Debug for ShareKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShareKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn grant() -> impl Strategy<Value = Grant> {
        any::<(i64, [u8; 16], u16, u64)>().prop_map(|(tenant, sandbox, port, expires_at_ms)| Grant {
            tenant: Tenant(tenant),
            sandbox: sandbox.into(),
            port,
            expires_at_ms,
        })
    }

    proptest! {
        #[test]
        fn a_token_says_what_was_signed_until_its_time_is_over(grant in grant(), now: u64) {
            let key = ShareKey([7; KEY_BYTES]);
            let verified = key.verify(&key.sign(&grant), now);
            if now < grant.expires_at_ms {
                prop_assert_eq!(verified, Ok(grant));
            } else {
                let ago_s = (now - grant.expires_at_ms) / 1000;
                prop_assert_eq!(verified, Err(NotGranted::Expired { ago_s }));
            }
        }

        #[test]
        fn a_token_with_one_bit_changed_is_forged(grant in grant(), bit in 0..(CLAIM_BYTES + MAC_BYTES) * 8) {
            let key = ShareKey([7; KEY_BYTES]);
            let mut bytes = URL_SAFE_NO_PAD.decode(key.sign(&grant)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(key.verify(&changed, 0), Err(NotGranted::Forged));
            prop_assert_eq!(ShareKey([8; KEY_BYTES]).verify(&key.sign(&grant), 0), Err(NotGranted::Forged));
        }

        #[test]
        fn arbitrary_texts_are_forged(token in ".{0,120}") {
            prop_assert_eq!(ShareKey([7; KEY_BYTES]).verify(&token, 0), Err(NotGranted::Forged));
        }
    }

    #[test]
    fn the_key_stays_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ports.key");
        let first = ShareKey::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ShareKey::open(&path).unwrap().0, first.0);
        fs::write(&path, "short").unwrap();
        // Refused and not replaced: somebody may be able to put it right.
        ShareKey::open(&path).unwrap_err();
    }
}

//! API keys: `pf_live_`, 48 hexadecimal digits of randomness, and 8 of a checksum over all that.
//!
//! The checksum tells a key that was cut or mistyped from one that is not known, and lets secret scanners find keys
//! without false alarms. At rest there is only the SHA-256 of the whole: 192 bits of randomness need no salt.

use pod_types::IdError;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "pf_live_";
const RANDOM_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 4;
const KEY_LEN: usize = PREFIX.len() + 2 * (RANDOM_BYTES + CHECKSUM_BYTES);

/// Characters of a key that are shown again.
const TAIL_CHARS: usize = 4;

/// A new key, in the only moment in which it is known.
pub(crate) struct Minted {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) digest: [u8; 32],
    pub(crate) tail: String,
}

pub(crate) fn mint() -> Result<Minted, IdError> {
    let mut random = [0; RANDOM_BYTES];
    let mut id = [0; 8];
    getrandom::fill(&mut random).map_err(|_| IdError::NoRandomness)?;
    getrandom::fill(&mut id).map_err(|_| IdError::NoRandomness)?;
    let body = format!("{PREFIX}{}", hex(&random));
    let key = format!("{body}{}", hex(&checksum(body.as_bytes())));
    Ok(Minted {
        id: format!("key_{}", hex(&id)),
        digest: digest(key.as_bytes()),
        tail: key[KEY_LEN - TAIL_CHARS..].to_owned(),
        key,
    })
}

pub(crate) fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Names a key of the environment, and its tenant, without telling it.
pub(crate) fn fingerprint(digest: &[u8; 32]) -> String {
    format!("env-{}", hex(&digest[..6]))
}

/// Whether this was meant to be one of our keys and cannot be one. Keys of other forms are the operator's own.
pub(super) fn is_mistyped(key: &[u8]) -> bool {
    let Some(rest) = key.strip_prefix(PREFIX.as_bytes()) else {
        return false;
    };
    let hexadecimal = rest.iter().all(u8::is_ascii_hexdigit);
    if !hexadecimal || rest.len() < 2 * RANDOM_BYTES {
        return false;
    }
    if key.len() != KEY_LEN {
        return true;
    }
    let (body, sum) = key.split_at(KEY_LEN - 2 * CHECKSUM_BYTES);
    hex(&checksum(body)).as_bytes() != sum
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = digest(body);
    [digest[0], digest[1], digest[2], digest[3]]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_carry_their_checksum() {
        let (one, other) = (mint().unwrap(), mint().unwrap());
        assert_ne!(one.key, other.key);
        assert_eq!(one.key.len(), 64);
        assert!(one.key.ends_with(&one.tail));
        assert!(!is_mistyped(one.key.as_bytes()));
        let mut wrong = one.key.clone().into_bytes();
        wrong[20] = if wrong[20] == b'0' { b'1' } else { b'0' };
        assert!(is_mistyped(&wrong));
        assert!(is_mistyped(&one.key.as_bytes()[..63]));
        for other in ["pf_live_mine", "pk_live_x", "", "pf_live_"] {
            assert!(!is_mistyped(other.as_bytes()), "{other}");
        }
    }
}

//! Secrets of webhooks and the signatures made with them, as Standard Webhooks has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use pod_types::IdError;
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// As many as a SHA-256 has; 24 to 64 are usual.
const BYTES: usize = 32;
const ID_BYTES: usize = 16;

/// A new secret as it is shown and stored.
pub(super) fn mint() -> Result<String, IdError> {
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).map_err(|_| IdError::NoRandomness)?;
    Ok(format!("{PREFIX}{}", STANDARD.encode(random)))
}

/// A new id of a kind.
pub(super) fn id(prefix: &str) -> Result<String, IdError> {
    let mut random = [0; ID_BYTES];
    getrandom::fill(&mut random).map_err(|_| IdError::NoRandomness)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{prefix}{digits}"))
}

/// The `webhook-signature` header: one signature for each secret, over the id, the time in seconds and the body.
pub(super) fn signatures<'a>(
    secrets: impl Iterator<Item = &'a str>,
    id: &str,
    timestamp_s: u64,
    body: &str,
) -> String {
    let signed = secrets.map(|secret| signature(secret, id, timestamp_s, body));
    signed.collect::<Vec<_>>().join(" ")
}

fn signature(secret: &str, id: &str, timestamp_s: u64, body: &str) -> String {
    let encoded = secret.strip_prefix(PREFIX).unwrap_or(secret);
    // Ours always are base64.
    let key = STANDARD
        .decode(encoded)
        .unwrap_or_else(|_| encoded.as_bytes().to_vec());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else {
        return String::new();
    };
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From the definition in RFC 2104.
    fn by_hand(key: &[u8], message: &[u8]) -> Vec<u8> {
        use sha2::Digest as _;
        let mut block = [0_u8; 64];
        block[..key.len()].copy_from_slice(key);
        let pad = |with: u8| block.map(|byte| byte ^ with);
        let inner = Sha256::new()
            .chain_update(pad(0x36))
            .chain_update(message)
            .finalize();
        Sha256::new()
            .chain_update(pad(0x5c))
            .chain_update(inner)
            .finalize()
            .to_vec()
    }

    #[test]
    fn the_example_of_the_standard_comes_out() {
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_and_ids_differ() {
        let (one, other) = (mint().unwrap(), mint().unwrap());
        assert_ne!(one, other);
        assert_eq!(
            STANDARD.decode(one.strip_prefix(PREFIX).unwrap()).unwrap().len(),
            BYTES
        );
        assert_ne!(id("whk_").unwrap(), id("whk_").unwrap());
    }

    proptest! {
        #[test]
        fn a_signature_is_the_hmac_of_id_time_and_body(
            key in proptest::collection::vec(any::<u8>(), 24..=64),
            time: u64,
            body in ".{0,200}",
        ) {
            let secret = format!("{PREFIX}{}", STANDARD.encode(&key));
            let message = format!("evt_1.{time}.{body}");
            let expected = format!("v1,{}", STANDARD.encode(by_hand(&key, message.as_bytes())));
            let both = signatures([secret.as_str(), secret.as_str()].into_iter(), "evt_1", time, &body);
            prop_assert_eq!(both, format!("{expected} {expected}"));
        }
    }
}

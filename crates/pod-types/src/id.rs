//! Ids that clients see: a kind prefix and 32 lowercase hexadecimal digits.
//!
//! The official client puts ids unescaped into URL paths, so their alphabet is fixed to `[a-z0-9_]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Random bytes in an id; 128 bits make guessing another tenant's id hopeless.
const RANDOM_BYTES: usize = 16;

/// Names one sandbox for its whole life, e.g. `sbx_0123456789abcdef0123456789abcdef`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxId([u8; RANDOM_BYTES]);

/// Why a text is not an id.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdError {
    #[error("an id of this kind starts with `{expected}`")]
    Prefix { expected: &'static str },
    #[error("an id has exactly 32 lowercase hexadecimal digits after its prefix")]
    Digits,
    #[error("the operating system gave no randomness")]
    NoRandomness,
}

impl SandboxId {
    const PREFIX: &'static str = "sbx_";

    /// Draws a new id from the operating system's randomness.
    ///
    /// # Errors
    /// [`IdError::NoRandomness`] when the system call fails.
    pub fn random() -> Result<Self, IdError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| IdError::NoRandomness)?;
        Ok(Self(bytes))
    }

    /// The 16 random bytes; the guest's machine-id is made from them.
    #[must_use]
    pub fn bytes(self) -> [u8; RANDOM_BYTES] {
        self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SandboxId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(IdError::Prefix {
            expected: Self::PREFIX,
        })?;
        parse_digits(digits.as_bytes()).map(Self).ok_or(IdError::Digits)
    }
}

impl TryFrom<String> for SandboxId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<SandboxId> for String {
    fn from(id: SandboxId) -> Self {
        id.to_string()
    }
}

pub(crate) fn parse_digits(digits: &[u8]) -> Option<[u8; RANDOM_BYTES]> {
    let mut bytes = [0; RANDOM_BYTES];
    if digits.len() != 2 * RANDOM_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = 16 * hex_value(pair[0])? + hex_value(pair[1])?;
    }
    Some(bytes)
}

/// Uppercase is refused: two spellings of one id would be two keys in somebody's map.
fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_survives_printing_and_parsing() {
        let id = SandboxId::random().unwrap();
        assert_eq!(id.to_string().len(), 36);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn foreign_prefixes_uppercase_and_wrong_lengths_are_refused() {
        let digits = "0123456789abcdef0123456789abcdef";
        assert_eq!(
            format!("spc_{digits}").parse::<SandboxId>(),
            Err(IdError::Prefix { expected: "sbx_" })
        );
        assert_eq!(
            format!("sbx_{}", digits.to_uppercase()).parse::<SandboxId>(),
            Err(IdError::Digits)
        );
        assert_eq!(
            format!("sbx_{digits}0").parse::<SandboxId>(),
            Err(IdError::Digits)
        );
        assert_eq!("sbx_".parse::<SandboxId>(), Err(IdError::Digits));
        assert_eq!(
            format!("sbx_{}é", &digits[..30]).parse::<SandboxId>(),
            Err(IdError::Digits)
        );
    }
}

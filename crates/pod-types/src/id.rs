//! Ids that clients see: a kind prefix and 32 lowercase hexadecimal digits.
//!
//! The official client puts ids unescaped into URL paths, so their alphabet is fixed to `[a-z0-9_]`.

use std::fmt;

use thiserror::Error;

/// Random bytes in an id; 128 bits make guessing another tenant's id hopeless.
const RANDOM_BYTES: usize = 16;

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

/// Kinds of ids are types, so that one is never taken for another.
macro_rules! ids {
    ($($(#[$about:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; RANDOM_BYTES]);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Draws a new id from the operating system's randomness.
            ///
            /// # Errors
            /// [`IdError::NoRandomness`] when the system call fails.
            pub fn random() -> Result<Self, IdError> {
                let mut bytes = [0; RANDOM_BYTES];
                getrandom::fill(&mut bytes).map_err(|_| IdError::NoRandomness)?;
                Ok(Self(bytes))
            }

            /// The random part.
            #[must_use]
            pub fn bytes(self) -> [u8; RANDOM_BYTES] {
                self.0
            }
        }

        impl From<[u8; RANDOM_BYTES]> for $name {
            fn from(bytes: [u8; RANDOM_BYTES]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(Self::PREFIX, &self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(Self::PREFIX, &self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(Self::PREFIX, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                parse(Self::PREFIX, &text).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )*};
}

ids! {
    /// Names one sandbox for its whole life, e.g. `sbx_0123456789abcdef0123456789abcdef`. The guest's machine-id is made
    /// of the same bytes.
    SandboxId = "sbx_";
    /// Names one terminal of a sandbox. Children of a sandbox know the terminals they were born with under the same ids.
    PtyId = "pty_";
}

fn print(prefix: &str, bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(prefix)?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse(prefix: &'static str, text: &str) -> Result<[u8; RANDOM_BYTES], IdError> {
    let digits = text
        .strip_prefix(prefix)
        .ok_or(IdError::Prefix { expected: prefix })?
        .as_bytes();
    let mut bytes = [0; RANDOM_BYTES];
    if digits.len() != 2 * RANDOM_BYTES {
        return Err(IdError::Digits);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = 16 * hex_value(pair[0])? + hex_value(pair[1])?;
    }
    Ok(bytes)
}

/// Uppercase is refused: two spellings of one id would be two keys in somebody's map.
fn hex_value(digit: u8) -> Result<u8, IdError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(IdError::Digits),
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
        assert_eq!(PtyId::from(id.bytes()).to_string()[4..], id.to_string()[4..]);
    }

    #[test]
    fn foreign_prefixes_uppercase_and_wrong_lengths_are_refused() {
        let digits = "0123456789abcdef0123456789abcdef";
        let foreign = format!("spc_{digits}").parse::<SandboxId>();
        assert_eq!(foreign, Err(IdError::Prefix { expected: "sbx_" }));
        for wrong in [
            format!("sbx_{}", digits.to_uppercase()),
            format!("sbx_{digits}0"),
            "sbx_".to_owned(),
            format!("sbx_{}é", &digits[..30]),
        ] {
            assert_eq!(wrong.parse::<SandboxId>(), Err(IdError::Digits), "{wrong}");
        }
    }
}

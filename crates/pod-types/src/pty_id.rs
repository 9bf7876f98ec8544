//! Ids of terminals.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{IdError, parse_digits};

/// Names one terminal of a sandbox, e.g. `pty_0123456789abcdef0123456789abcdef`. Children of a sandbox know the terminals
/// they were born with under the same ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PtyId([u8; 16]);

impl PtyId {
    const PREFIX: &'static str = "pty_";

    /// Draws a new id from the operating system's randomness.
    ///
    /// # Errors
    /// [`IdError::NoRandomness`] when the system call fails.
    pub fn random() -> Result<Self, IdError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| IdError::NoRandomness)?;
        Ok(Self(bytes))
    }

    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl From<[u8; 16]> for PtyId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for PtyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PtyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PtyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(IdError::Prefix {
            expected: Self::PREFIX,
        })?;
        parse_digits(digits.as_bytes()).map(Self).ok_or(IdError::Digits)
    }
}

impl TryFrom<String> for PtyId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<PtyId> for String {
    fn from(id: PtyId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_printing_and_parsing_and_is_no_id_of_a_sandbox() {
        let id = PtyId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        let other = id.to_string().replace("pty_", "sbx_");
        assert_eq!(other.parse::<PtyId>(), Err(IdError::Prefix { expected: "pty_" }));
        assert_eq!("pty_12".parse::<PtyId>(), Err(IdError::Digits));
    }
}

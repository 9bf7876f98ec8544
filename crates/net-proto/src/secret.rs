//! Secrets that a guest uses without having them.

use std::fmt;

use egress::NameRule;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// Most secrets of one wire.
pub const SECRETS_MAX: usize = 64;

/// Longest value, and longest placeholder, in bytes.
pub const SECRET_BYTES_MAX: usize = 8 * 1024;

/// Shortest placeholder: one that is met by chance would put the secret where it does not belong.
pub const PLACEHOLDER_BYTES_MIN: usize = 8;

/// In requests over HTTPS to these names the placeholder is replaced by the value, in the values of header fields
/// and in the target; nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub placeholder: String,
    pub value: SecretValue,
    pub hosts: Vec<NameRule>,
}

/// A text that is not shown by accident, and is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(String);

impl SecretValue {
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_sent_but_not_shown() {
        let secret = Secret {
            placeholder: "{{TOKEN}}".to_owned(),
            value: SecretValue::new("hunter2".to_owned()),
            hosts: vec!["api.example.com".parse().unwrap()],
        };
        assert!(!format!("{secret:?}").contains("hunter2"));
        let written = serde_json::to_string(&secret).unwrap();
        assert_eq!(
            written,
            r#"{"placeholder":"{{TOKEN}}","value":"hunter2","hosts":["api.example.com"]}"#
        );
        assert_eq!(serde_json::from_str::<Secret>(&written).unwrap(), secret);
    }
}

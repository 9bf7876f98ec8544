//! Domain names in the one spelling in which they are compared.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Longest name, in bytes, without the dot of the root.
pub const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A domain name: lower-case ASCII (other scripts as punycode), no dot at the end, and never something that could be
/// read as an address. Cheap to copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidName {
    #[error("is empty")]
    Empty,
    #[error("is longer than {NAME_BYTES_MAX} bytes, or one of its parts than {LABEL_BYTES_MAX}")]
    TooLong,
    #[error("has two dots in a row or begins with one")]
    EmptyLabel,
    #[error("has a character that names do not have")]
    Character,
    #[error("ends in a number, so it could be read as an address")]
    Number,
}

impl Name {
    /// Takes a name as protocols carry it: ASCII, in any case, with or without the dot at the end.
    ///
    /// # Errors
    /// Something in it that a name does not have.
    pub fn from_ascii(text: &[u8]) -> Result<Self, InvalidName> {
        let bare = text.strip_suffix(b".").unwrap_or(text);
        if bare.is_empty() {
            return Err(InvalidName::Empty);
        }
        if bare.len() > NAME_BYTES_MAX {
            return Err(InvalidName::TooLong);
        }
        let mut last: &[u8] = &[];
        for label in bare.split(|byte| *byte == b'.') {
            check_label(label)?;
            last = label;
        }
        if is_number(last) {
            return Err(InvalidName::Number);
        }
        let name = bare.iter().map(|byte| char::from(byte.to_ascii_lowercase()));
        Ok(Self(name.collect::<String>().into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name is `parent` with at least one more label in front.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        let front = self.0.strip_suffix(&*parent.0);
        front.is_some_and(|front| front.len() > 1 && front.ends_with('.'))
    }
}

/// As people write names: any script.
impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_ascii() {
            return Self::from_ascii(text.as_bytes());
        }
        // Mapping takes time, and a name that is longer than this is none in any form.
        if text.len() > 4 * NAME_BYTES_MAX {
            return Err(InvalidName::TooLong);
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| InvalidName::Character)?;
        Self::from_ascii(ascii.as_bytes())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Underscores are used for services, and some hosts have them in their names.
fn check_label(label: &[u8]) -> Result<(), InvalidName> {
    if label.is_empty() {
        return Err(InvalidName::EmptyLabel);
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err(InvalidName::TooLong);
    }
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if label.iter().all(known) {
        Ok(())
    } else {
        Err(InvalidName::Character)
    }
}

/// What `inet_aton` and browsers take as the last part of an address.
fn is_number(label: &[u8]) -> bool {
    let hex = label.strip_prefix(b"0x").or_else(|| label.strip_prefix(b"0X"));
    label.iter().all(u8::is_ascii_digit) || hex.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_has_one_spelling() {
        for (given, kept) in [
            ("Example.COM.", "example.com"),
            ("_dmarc.example.com", "_dmarc.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(given.parse::<Name>().unwrap().as_str(), kept, "{given}");
        }
    }

    #[test]
    fn what_is_no_name_or_could_be_an_address_is_refused() {
        for (given, error) in [
            ("", InvalidName::Empty),
            (".", InvalidName::Empty),
            ("a..b", InvalidName::EmptyLabel),
            (".a", InvalidName::EmptyLabel),
            ("a b", InvalidName::Character),
            ("a\0.com", InvalidName::Character),
            ("*.example.com", InvalidName::Character),
            ("127.1", InvalidName::Number),
            ("0x7f.0x1", InvalidName::Number),
            ("example.0x", InvalidName::Number),
            ("2130706433", InvalidName::Number),
        ] {
            assert_eq!(given.parse::<Name>(), Err(error), "{given:?}");
        }
        assert_eq!("a".repeat(64).parse::<Name>(), Err(InvalidName::TooLong));
        assert_eq!(
            vec!["a"; 128].join(".").parse::<Name>(),
            Err(InvalidName::TooLong)
        );
    }

    #[test]
    fn below_means_at_least_one_label_more() {
        let parent: Name = "example.org".parse().unwrap();
        let is_below = |text: &str| text.parse::<Name>().unwrap().is_below(&parent);
        assert!(is_below("a.example.org") && is_below("a.b.example.org"));
        assert!(!is_below("example.org") && !is_below("badexample.org") && !is_below("org"));
    }

    proptest! {
        #[test]
        fn reading_a_name_never_panics_and_what_is_read_reads_the_same(text: String, bytes: Vec<u8>) {
            for name in [text.parse::<Name>(), Name::from_ascii(&bytes)].into_iter().flatten() {
                prop_assert!(name.as_str().len() <= NAME_BYTES_MAX);
                prop_assert_eq!(name.as_str().parse::<Name>(), Ok(name.clone()));
            }
        }
    }
}

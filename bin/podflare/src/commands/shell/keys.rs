//! The keys that detach, found in what is typed. No I/O.

use std::str::FromStr;

/// A sequence of bytes; empty when nothing detaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

/// Looks for the keys. What may be their beginning is held back until it is clear that it is not.
#[derive(Debug)]
pub(super) struct Typed {
    keys: Vec<u8>,
    /// So many of the keys have been typed.
    held: usize,
}

impl FromStr for DetachKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "none" {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

fn key(text: &str) -> Result<u8, String> {
    let wrong =
        || format!("{text:?} is no key; keys are single characters or `ctrl-` and one of a-z @ [ \\ ] ^ _");
    let (is_control, name) = match text.strip_prefix("ctrl-") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let &[byte] = name.as_bytes() else {
        return Err(wrong());
    };
    match (is_control, byte) {
        (true, b'a'..=b'z' | b'@' | b'['..=b'_') => Ok(byte & 0x1f),
        (false, b'!'..=b'~') => Ok(byte),
        _ => Err(wrong()),
    }
}

impl Typed {
    pub(super) fn new(keys: DetachKeys) -> Self {
        Self {
            keys: keys.0,
            held: 0,
        }
    }

    /// What of the bytes goes to the program, and whether the keys came after that.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            // What is held back and does not go on may still end in a shorter beginning of the keys.
            while self.held > 0 && self.keys.get(self.held) != Some(&byte) {
                let shorter = (1..self.held)
                    .rev()
                    .find(|len| self.keys[..self.held].ends_with(&self.keys[..*len]));
                let shorter = shorter.unwrap_or(0);
                passed.extend_from_slice(&self.keys[..self.held - shorter]);
                self.held = shorter;
            }
            if self.keys.get(self.held) != Some(&byte) {
                passed.push(byte);
                continue;
            }
            self.held += 1;
            if self.held == self.keys.len() {
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str) -> Typed {
        Typed::new(keys.parse().unwrap())
    }

    #[test]
    fn the_keys_are_found_wherever_they_are_cut_and_nothing_else_is_lost() {
        let mut some = typed("ctrl-p,ctrl-q");
        assert_eq!(some.take(b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(some.take(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(some.take(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(some.take(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(some.take(b"\x11rest"), (vec![], true));
    }

    #[test]
    fn keys_that_begin_with_themselves_are_found() {
        let mut some = typed("a,a,b");
        assert_eq!(some.take(b"aaab"), (b"a".to_vec(), true));
        let mut some = typed("a,b,a,c");
        assert_eq!(some.take(b"ababac"), (b"ab".to_vec(), true));
        assert_eq!(typed("none").take(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }

    #[test]
    fn what_is_no_key_is_told() {
        for wrong in ["ctrl-", "ctrl-1", "ab", "ctrl-p,", "\u{fc}"] {
            assert!(
                wrong.parse::<DetachKeys>().unwrap_err().contains("is no key"),
                "{wrong}"
            );
        }
        assert_eq!("ctrl-a,d".parse(), Ok(DetachKeys(vec![1, b'd'])));
    }
}

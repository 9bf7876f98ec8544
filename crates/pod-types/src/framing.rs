//! Messages on a stream: JSON behind its length.
//!
//! Protocols between processes of one host are framed like this. People read them while debugging, and none is on a path
//! where a microsecond counts.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes of the length before each message, little-endian.
pub const LEN_BYTES: usize = 4;

/// The framing of one protocol, which knows how long its messages can be.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    message_bytes_max: usize,
}

#[derive(Debug, Error)]
pub enum CodecError {
    #[error("a message of {len} bytes is over the limit of {max}")]
    TooLong { len: usize, max: usize },
    #[error("the message is not the JSON expected")]
    Json(#[source] serde_json::Error),
}

impl Framing {
    /// Messages have at most so many bytes.
    #[must_use]
    pub const fn up_to(message_bytes_max: usize) -> Self {
        Self { message_bytes_max }
    }

    /// A message with its length in front.
    ///
    /// # Errors
    /// The message is over the limit.
    pub fn encode<T: Serialize>(self, message: &T) -> Result<Vec<u8>, CodecError> {
        let mut bytes = vec![0; LEN_BYTES];
        serde_json::to_writer(&mut bytes, message).map_err(CodecError::Json)?;
        let len = bytes.len() - LEN_BYTES;
        self.check(len)?;
        let prefix = u32::try_from(len).map_err(|_| self.too_long(len))?;
        bytes[..LEN_BYTES].copy_from_slice(&prefix.to_le_bytes());
        Ok(bytes)
    }

    /// Takes one message off the front of what has been read so far: the message and the bytes it used, or `None` when
    /// more must be read first.
    ///
    /// # Errors
    /// A length over the limit (before waiting for it), or bytes that are not the JSON expected.
    pub fn decode<T: DeserializeOwned>(self, buffer: &[u8]) -> Result<Option<(T, usize)>, CodecError> {
        let Some((prefix, rest)) = buffer.split_first_chunk::<LEN_BYTES>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*prefix) as usize;
        self.check(len)?;
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body).map_err(CodecError::Json)?;
        Ok(Some((message, LEN_BYTES + len)))
    }

    fn check(self, len: usize) -> Result<(), CodecError> {
        if len > self.message_bytes_max {
            return Err(self.too_long(len));
        }
        Ok(())
    }

    fn too_long(self, len: usize) -> CodecError {
        CodecError::TooLong {
            len,
            max: self.message_bytes_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAMING: Framing = Framing::up_to(1 << 20);

    proptest! {
        #[test]
        fn messages_survive_any_cut_of_the_stream(texts: Vec<String>, cut in 1..64_usize) {
            let stream: Vec<u8> = texts.iter().flat_map(|text| FRAMING.encode(text).unwrap()).collect();
            let (mut buffer, mut read) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some((text, used)) = FRAMING.decode::<String>(&buffer).unwrap() {
                    buffer.drain(..used);
                    read.push(text);
                }
            }
            prop_assert_eq!(read, texts);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn the_limit_is_kept_on_both_ends(len in 0..200_usize, max in 0..200_usize) {
            let framing = Framing::up_to(max);
            // Two quotes come with it.
            let text = "x".repeat(len);
            let long = FRAMING.encode(&text).unwrap();
            prop_assert_eq!(framing.encode(&text).is_ok(), len + 2 <= max);
            prop_assert_eq!(framing.decode::<String>(&long).is_ok(), len + 2 <= max);
        }
    }

    #[test]
    fn an_endless_message_is_refused_before_it_is_read() {
        let prefix = u32::MAX.to_le_bytes();
        assert!(matches!(
            FRAMING.decode::<String>(&prefix),
            Err(CodecError::TooLong { .. })
        ));
    }
}

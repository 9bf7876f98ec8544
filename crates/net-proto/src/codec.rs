//! Length-prefixed JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes of the length before each message.
pub const LEN_BYTES: usize = 4;

/// Longest message, in bytes; statistics of thousands of wires are the largest.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Error)]
pub enum CodecError {
    #[error("a message of {len} bytes is over the limit of {MESSAGE_MAX}")]
    TooLong { len: usize },
    #[error("the message is not the JSON expected")]
    Json(#[source] serde_json::Error),
}

/// A message with its length in front.
///
/// # Errors
/// The message is over [`MESSAGE_MAX`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![0; LEN_BYTES];
    serde_json::to_writer(&mut bytes, message).map_err(CodecError::Json)?;
    let len = bytes.len() - LEN_BYTES;
    if len > MESSAGE_MAX {
        return Err(CodecError::TooLong { len });
    }
    let prefix = u32::try_from(len).map_err(|_| CodecError::TooLong { len })?;
    bytes[..LEN_BYTES].copy_from_slice(&prefix.to_le_bytes());
    Ok(bytes)
}

/// Takes one message off the front of what has been read so far: the message and the bytes it used, or `None` when
/// more must be read first.
///
/// # Errors
/// A length over [`MESSAGE_MAX`] (before waiting for it), or bytes that are not the JSON expected.
pub fn decode<T: DeserializeOwned>(buffer: &[u8]) -> Result<Option<(T, usize)>, CodecError> {
    let Some((prefix, rest)) = buffer.split_first_chunk::<LEN_BYTES>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(*prefix) as usize;
    if len > MESSAGE_MAX {
        return Err(CodecError::TooLong { len });
    }
    let Some(body) = rest.get(..len) else {
        return Ok(None);
    };
    let message = serde_json::from_slice(body).map_err(CodecError::Json)?;
    Ok(Some((message, LEN_BYTES + len)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_survive_any_cut_of_the_stream(texts: Vec<String>, cut in 1..64_usize) {
            let stream: Vec<u8> = texts.iter().flat_map(|text| encode(text).unwrap()).collect();
            let (mut buffer, mut read) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some((text, used)) = decode::<String>(&buffer).unwrap() {
                    buffer.drain(..used);
                    read.push(text);
                }
            }
            prop_assert_eq!(read, texts);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(decode::<crate::Request>(&bytes));
            drop(decode::<crate::Reply>(&bytes));
        }
    }

    #[test]
    fn an_endless_message_is_refused_before_it_is_read() {
        let prefix = u32::MAX.to_le_bytes();
        assert!(matches!(
            decode::<String>(&prefix),
            Err(CodecError::TooLong { .. })
        ));
    }
}

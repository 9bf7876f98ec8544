//! Messages and bytes.

use pod_types::{CodecError, Framing};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message, in bytes; console tails are the largest part and are bounded well below.
pub const MESSAGE_MAX: usize = 1024 * 1024;

const FRAMING: Framing = Framing::up_to(MESSAGE_MAX);

/// A message with its length in front.
///
/// # Errors
/// The message is over [`MESSAGE_MAX`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    FRAMING.encode(message)
}

/// Takes one message off the front of what has been read so far: the message and the bytes it used, or `None` when
/// more must be read first.
///
/// # Errors
/// A length over [`MESSAGE_MAX`] (before waiting for it), or bytes that are not the JSON expected.
pub fn decode<T: DeserializeOwned>(buffer: &[u8]) -> Result<Option<(T, usize)>, CodecError> {
    FRAMING.decode(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(decode::<crate::Request>(&bytes));
            drop(decode::<crate::FromVmm>(&bytes));
        }
    }
}

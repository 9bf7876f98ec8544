//! The frame: an 8-byte header, then a body.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..4 | body length, little endian |
//! | 4 | kind, see [`crate::Request`] and [`crate::Reply`] |
//! | 5..8 | zero |

use thiserror::Error;

/// Bytes of a header on the wire.
pub const HEADER_LEN: usize = 8;

/// Where in a header the kind is.
pub(crate) const KIND_AT: usize = 4;

/// Longest body the host may send: a 64 MiB code string and some room for the fields around it.
pub const HOST_BODY_MAX: usize = 64 * 1024 * 1024 + 4096;

/// Longest body the guest may send. Output is cut into pieces of at most [`OUTPUT_PIECE_MAX`], and no other
/// message comes near; a guest that claims more is broken or hostile.
pub const GUEST_BODY_MAX: usize = 128 * 1024;

/// Longest piece of output in one frame.
pub const OUTPUT_PIECE_MAX: usize = 64 * 1024;

/// Who sent a frame; decides the length cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    HostToGuest,
    GuestToHost,
}

/// A validated header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u8,
    pub body_len: usize,
}

/// Why eight bytes are not a header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("a frame body of {len} bytes is over the limit of {max}")]
    TooLong { len: usize, max: usize },
    #[error("the reserved bytes of a frame header are not zero")]
    Reserved,
}

impl Direction {
    /// The longest body this side may send, in bytes.
    #[must_use]
    pub fn body_max(self) -> usize {
        match self {
            Self::HostToGuest => HOST_BODY_MAX,
            Self::GuestToHost => GUEST_BODY_MAX,
        }
    }
}

impl Header {
    /// Checks a header as read from the wire, before any of its body is read.
    ///
    /// # Errors
    /// A length over the sender's cap, or reserved bytes in use.
    pub fn decode(bytes: [u8; HEADER_LEN], from: Direction) -> Result<Self, FrameError> {
        let [a, b, c, d, kind, reserved @ ..] = bytes;
        let body_len = u32::from_le_bytes([a, b, c, d]) as usize;
        let max = from.body_max();
        if body_len > max {
            return Err(FrameError::TooLong { len: body_len, max });
        }
        if reserved != [0; 3] {
            return Err(FrameError::Reserved);
        }
        Ok(Self { kind, body_len })
    }

    /// The header's eight bytes.
    ///
    /// # Errors
    /// A length over the sender's cap: the caller must cut its body first.
    pub fn encode(self, from: Direction) -> Result<[u8; HEADER_LEN], FrameError> {
        let max = from.body_max();
        let too_long = FrameError::TooLong {
            len: self.body_len,
            max,
        };
        if self.body_len > max {
            return Err(too_long);
        }
        let [a, b, c, d] = u32::try_from(self.body_len).map_err(|_| too_long)?.to_le_bytes();
        Ok([a, b, c, d, self.kind, 0, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_guest_cannot_make_the_host_allocate_more_than_its_cap() {
        let header = Header {
            kind: 1,
            body_len: GUEST_BODY_MAX + 1,
        };
        let bytes = header.encode(Direction::HostToGuest).unwrap();
        let error = FrameError::TooLong {
            len: GUEST_BODY_MAX + 1,
            max: GUEST_BODY_MAX,
        };
        assert_eq!(Header::decode(bytes, Direction::GuestToHost), Err(error));
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes: [u8; HEADER_LEN]) {
            for from in [Direction::HostToGuest, Direction::GuestToHost] {
                if let Ok(header) = Header::decode(bytes, from) {
                    prop_assert_eq!(header.encode(from), Ok(bytes));
                }
            }
        }

        #[test]
        fn what_encodes_decodes_to_the_same_header(kind: u8, body_len in 0..=GUEST_BODY_MAX) {
            let header = Header { kind, body_len };
            let bytes = header.encode(Direction::GuestToHost).unwrap();
            prop_assert_eq!(Header::decode(bytes, Direction::GuestToHost), Ok(header));
        }
    }
}

//! How checked files are laid out: a header, and a body in postcard.
//!
//! ```text
//!   0  magic         8 bytes, one for each kind of file
//!   8  version       u32, little-endian
//!  12  body length   u32
//!  16  SHA-256 of the body
//!  48  body
//! ```
//!
//! The version is the only compatibility there is: a file of another version is not read. It has to change with any
//! type that is stored; see `docs/` for how.

use std::fs::File;
use std::io::{self, Read as _};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Changes whenever a stored type does.
pub(super) const VERSION: u32 = 2;

/// What is stored in files of its own.
pub(crate) trait Stored: Serialize + DeserializeOwned {
    const MAGIC: [u8; 8];
}

const HEADER_BYTES: usize = 48;
/// Longest body, in bytes: an index of a disk of the largest size, badly scattered, and more.
const BODY_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, Error)]
pub enum FormatError {
    #[error("it is shorter than a header")]
    NoHeader,
    #[error("it does not begin as one of ours")]
    Magic,
    #[error("it has format version {version}, this program reads {VERSION}")]
    Version { version: u32 },
    #[error("its length is not what its header says")]
    Length,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its body does not decode")]
    Body(#[source] postcard::Error),
}

pub(crate) fn encode<T: Stored>(value: &T) -> Result<Vec<u8>, FormatError> {
    let body = postcard::to_stdvec(value).map_err(FormatError::Body)?;
    let len = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= BODY_BYTES_MAX)
        .ok_or(FormatError::Length)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend(T::MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(Sha256::digest(&body));
    bytes.extend(body);
    Ok(bytes)
}

/// Everything is checked before the body is looked at.
pub(crate) fn decode<T: Stored>(bytes: &[u8]) -> Result<T, FormatError> {
    let (header, body) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(FormatError::NoHeader)?;
    let [magic, fields, sum @ ..] = header.as_chunks::<8>().0 else {
        return Err(FormatError::NoHeader);
    };
    if *magic != T::MAGIC {
        return Err(FormatError::Magic);
    }
    let [v0, v1, v2, v3, l0, l1, l2, l3] = *fields;
    let version = u32::from_le_bytes([v0, v1, v2, v3]);
    if version != VERSION {
        return Err(FormatError::Version { version });
    }
    if body.len() as u64 != u64::from(u32::from_le_bytes([l0, l1, l2, l3])) {
        return Err(FormatError::Length);
    }
    if Sha256::digest(body)[..] != *sum.as_flattened() {
        return Err(FormatError::Checksum);
    }
    match postcard::take_from_bytes(body).map_err(FormatError::Body)? {
        (value, []) => Ok(value),
        _ => Err(FormatError::Length),
    }
}

/// Reads a file of at most the length one can have.
pub(crate) fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = (HEADER_BYTES + BODY_BYTES_MAX) as u64;
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

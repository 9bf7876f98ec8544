//! A space as one file, for another host or for a shelf.
//!
//! ```text
//!   "podparcl", version u32, length u32, manifest (JSON)      sum
//!   part u8, packing u8, 0 u16, stored u32, length u32, at u64, content   sum      as often as there is content
//!   0xff and zeros                                            sum      the end; nothing follows
//! ```
//!
//! Numbers are little-endian. Each **sum** is that of everything in the file before it, so what is damaged or cut is
//! noticed before any of it is used, and a file without its end is none. Content is packed (LZ4) where that makes it
//! smaller; what is not told of is zeros, so a template's memory, which is mostly that, takes no room. Parts come in a fixed
//! order, and each from its front to its back: a file cannot say a thing twice.
//!
//! Nobody vouches for such a file: whoever can change one can sum it up again. It has no names of files, and all lengths
//! are bounded before memory or disk is used for them.

mod manifest;
mod pack;
mod sum;
#[cfg(test)]
mod tests;
mod unpack;

use std::io;

use thiserror::Error;

pub(crate) use manifest::{Lengths, Manifest};
pub(crate) use pack::pack;
pub(crate) use unpack::Unpacker;

const MAGIC: [u8; 8] = *b"podparcl";
/// Raise it with any change that a reader of this version does not understand.
const VERSION: u32 = 1;
const MANIFEST_BYTES_MAX: usize = 512 << 10;
/// Most content of one record.
const CHUNK_BYTES: usize = 256 << 10;
const HEADER_BYTES: usize = 20;

/// What a space is made of, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    State,
    Replay,
    Memory,
    Disk,
    /// The memory of its template's snapshot, where its own lies over that.
    Base,
}

/// Why a file is not a space.
#[derive(Debug, Error)]
pub(crate) enum ParcelError {
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    #[error("the file was cut: it ends at byte {at}, before the space does")]
    Cut { at: u64 },
    #[error("it is not a file that a space was exported to")]
    Foreign,
    #[error("the file has format version {0}, and this host reads {VERSION}")]
    Version(u32),
    #[error("the file is damaged before byte {at}")]
    Damaged { at: u64 },
    #[error("the file makes no sense before byte {at}: {what}")]
    Senseless { at: u64, what: &'static str },
    #[error("the file does not say what the space is")]
    Manifest(#[source] serde_json::Error),
}

impl Part {
    const ALL: [Self; 5] = [Self::State, Self::Replay, Self::Memory, Self::Disk, Self::Base];
    /// In the place of a part: there is no more.
    const END: u8 = 0xff;

    fn code(self) -> u8 {
        match self {
            Self::State => 1,
            Self::Replay => 2,
            Self::Memory => 3,
            Self::Disk => 4,
            Self::Base => 5,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.code() == code)
    }
}

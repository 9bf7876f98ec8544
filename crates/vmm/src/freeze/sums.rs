//! Checksums of large files, a number for each part: what was written is what is read back, or it is said so.
//!
//! XXH64: it is to notice damage, not forgery, and a resume waits for it. Under emulation, where it matters most, it takes
//! a fraction of the time of the alternatives (see `docs/decisions`).

use std::fs::File;
use std::hash::Hasher as _;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use twox_hash::XxHash64;

use super::view::View;

/// Bytes that have one checksum.
const PART_BYTES: usize = 1 << 20;
/// Bytes mapped at a time: many parts, and page tables of a few pages only.
const VIEW_BYTES: usize = 64 << 20;
const SEED: u64 = 0;

/// Length and checksums of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) bytes: u64,
    /// Of each part, the last of which may be shorter.
    parts: Vec<u64>,
}

/// Sums up what is written, in order.
#[derive(Debug)]
pub(crate) struct Summer {
    sums: Sums,
    hash: XxHash64,
    /// Bytes of the part that is being summed.
    within: usize,
}

#[derive(Debug, Error)]
pub enum SumError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it has {found} bytes instead of {wanted}")]
    Length { found: u64, wanted: u64 },
    #[error("it is damaged between bytes {from} and {to}")]
    Damaged { from: u64, to: u64 },
}

impl Summer {
    pub(crate) fn new() -> Self {
        Self {
            sums: Sums {
                bytes: 0,
                parts: Vec::new(),
            },
            hash: XxHash64::with_seed(SEED),
            within: 0,
        }
    }

    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.within));
            self.hash.write(now);
            self.within += now.len();
            self.sums.bytes += now.len() as u64;
            if self.within == PART_BYTES {
                self.end_part();
            }
            bytes = later;
        }
    }

    pub(crate) fn finish(mut self) -> Sums {
        if self.within > 0 {
            self.end_part();
        }
        self.sums
    }

    fn end_part(&mut self) {
        let hash = std::mem::replace(&mut self.hash, XxHash64::with_seed(SEED));
        self.sums.parts.push(hash.finish());
        self.within = 0;
    }
}

impl Sums {
    /// Of a whole file.
    pub(crate) fn of(file: &File) -> Result<Self, SumError> {
        let mut summer = Summer::new();
        each_part(file, bytes_of(file)?, |part| {
            summer.add(part);
            Ok(())
        })?;
        Ok(summer.finish())
    }

    /// Whether a file is the one that was summed.
    pub(crate) fn check(&self, file: &File) -> Result<(), SumError> {
        let found = bytes_of(file)?;
        let parts = self.bytes.div_ceil(PART_BYTES as u64);
        if found != self.bytes || self.parts.len() as u64 != parts {
            let wanted = self.bytes;
            return Err(SumError::Length { found, wanted });
        }
        let mut summer = Summer::new();
        each_part(file, found, |part| {
            let done = summer.sums.parts.len();
            summer.add(part);
            self.compare(&summer.sums, done)
        })?;
        let done = summer.sums.parts.len();
        self.compare(&summer.finish(), done)
    }

    /// Compares the parts from one on.
    fn compare(&self, found: &Self, first: usize) -> Result<(), SumError> {
        let theirs = found.parts.iter().skip(first);
        let ours = self.parts.iter().skip(first);
        match (first..).zip(theirs.zip(ours)).find(|(_, (a, b))| a != b) {
            None => Ok(()),
            Some((part, _)) => {
                let from = part as u64 * PART_BYTES as u64;
                Err(SumError::Damaged {
                    from,
                    to: self.bytes.min(from + PART_BYTES as u64),
                })
            }
        }
    }
}

/// By fstat(2), which a confined process may use.
fn bytes_of(file: &File) -> Result<u64, SumError> {
    let file = rustix::fs::fstat(file).map_err(|error| SumError::Read(error.into()))?;
    Ok(u64::try_from(file.st_size).unwrap_or(0))
}

/// Calls with one part after the other of a file of this length.
fn each_part(
    file: &File,
    bytes: u64,
    mut call: impl FnMut(&[u8]) -> Result<(), SumError>,
) -> Result<(), SumError> {
    let mut copy = Vec::new();
    let mut at = 0;
    while at < bytes {
        let viewed = usize::try_from(bytes - at).map_or(VIEW_BYTES, |left| left.min(VIEW_BYTES));
        let view = View::new(file, at, viewed);
        for start in (0..viewed).step_by(PART_BYTES) {
            let range = start..viewed.min(start + PART_BYTES);
            match view.as_ref().map(|view| view.read(range.clone())) {
                Ok(Ok(part)) => call(part)?,
                // A kernel that cannot do that (before Linux 5.14), or a part that cannot be read: reading says why.
                _ => {
                    copy.resize(range.len(), 0);
                    let from = at + start as u64;
                    file.read_exact_at(&mut copy, from).map_err(SumError::Read)?;
                    call(&copy)?;
                }
            }
        }
        at += viewed as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn summed_in_pieces_or_at_once_is_the_same_and_any_damage_is_noticed(
            sizes in proptest::collection::vec((0..200_000_usize, any::<u8>()), 0..12),
            at: prop::sample::Index, bits in 1..=255_u8,
        ) {
            let pieces: Vec<_> = sizes.into_iter().map(|(len, value)| vec![value; len]).collect();
            let mut summer = Summer::new();
            pieces.iter().for_each(|piece| summer.add(piece));
            let sums = summer.finish();
            let mut bytes = pieces.concat();
            prop_assert_eq!(&Sums::of(&file(&bytes)).unwrap(), &sums);
            sums.check(&file(&bytes)).unwrap();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                let cut = matches!(sums.check(&file(&bytes[..at])), Err(SumError::Length { .. }));
                prop_assert!(cut);
                bytes[at] ^= bits;
                let damaged = matches!(
                    sums.check(&file(&bytes)),
                    Err(SumError::Damaged { from, to }) if from <= at as u64 && (at as u64) < to
                );
                prop_assert!(damaged);
            }
        }
    }
}

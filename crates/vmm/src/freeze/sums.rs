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
const VIEW_BYTES: usize = 16 << 20;
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
        let bytes = bytes_of(file)?;
        let mut parts = Vec::new();
        each_part(file, bytes, |part| {
            parts.push(sum(part));
            Ok(())
        })?;
        Ok(Self { bytes, parts })
    }

    /// Whether a file is the one that was summed.
    pub(crate) fn check(&self, file: &File) -> Result<(), SumError> {
        let (found, wanted) = (bytes_of(file)?, self.bytes);
        let parts = wanted.div_ceil(PART_BYTES as u64);
        if found != wanted || self.parts.len() as u64 != parts {
            return Err(SumError::Length { found, wanted });
        }
        let mut sums = (0..).step_by(PART_BYTES).zip(&self.parts);
        each_part(file, found, |part| match sums.next() {
            Some((_, wanted)) if sum(part) == *wanted => Ok(()),
            Some((from, _)) => Err(SumError::Damaged {
                from,
                to: from + part.len() as u64,
            }),
            None => Err(SumError::Length { found, wanted }),
        })
    }
}

/// That of a whole part, which a [`Summer`] gives for its pieces.
fn sum(part: &[u8]) -> u64 {
    XxHash64::oneshot(SEED, part)
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

    #[test]
    fn files_longer_than_what_is_mapped_at_a_time_are_summed_to_their_ends() {
        let bytes = 2 * VIEW_BYTES as u64 + 4096 + 5;
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        let ends = [0, VIEW_BYTES as u64 - 1, VIEW_BYTES as u64, bytes - 1];
        for (value, at) in (1..).zip(ends) {
            file.write_all_at(&[value], at).unwrap();
        }
        let sums = Sums::of(&file).unwrap();
        assert_eq!((sums.bytes, sums.parts.len()), (bytes, 33));
        sums.check(&file).unwrap();
        for at in ends {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x80], at).unwrap();
            let SumError::Damaged { from, to } = sums.check(&file).unwrap_err() else {
                panic!("damage at {at} was not told as such");
            };
            assert!(from <= at && at < to && to <= bytes && to - from <= PART_BYTES as u64);
            file.write_all_at(&byte, at).unwrap();
        }
        sums.check(&file).unwrap();
    }
}

//! Checksums of the memories that spaces lie over: one that has been damaged is not gone on with.
//!
//! A space's own files are summed by the VM process that wrote them, and checked whole by the one that goes on with them. A
//! template's memory is larger and maps into every VM of its template, so it is summed once, when it is first kept, and
//! checked once by each daemon, beside what it is needed for. What was found holds for as long as the file is not written.
//!
//! A sum is that of the pages of a MiB that are not zeros, so it costs what the memory holds, and a copy in which zeros
//! became holes, or holes zeros, is the same.

use std::fs::{self, File};
use std::hash::Hasher as _;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use twox_hash::XxHash64;

use super::meta::digest;
use super::templates::MEMORY;
use super::{Spaces, TemplateMemory};

const SUMS: &str = "sums";
const UNFINISHED: &str = "sums.part";
const VERSION: u32 = 1;

const PART_BYTES: u64 = 1 << 20;
const PAGE: usize = 4096;
/// Read at a time: small enough to stay in a CPU's cache until it is summed.
const READ_BYTES: usize = 128 << 10;

/// Files that were found whole; more than there are templates.
const CHECKED_MAX: usize = 256;

/// Which file it was, and that nobody has written it since: device, number, length, time of the last change.
pub(super) type Checked = (u64, u64, u64, i64, i64);

/// Why a memory is not what it was.
#[derive(Debug, Error)]
pub(crate) enum BaseError {
    #[error("the memory of its template's snapshot cannot be read")]
    Read(#[source] io::Error),
    #[error("the memory of its template's snapshot is damaged between bytes {from} and {to}")]
    Damaged { from: u64, to: u64 },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sums {
    version: u32,
    bytes: u64,
    parts: Vec<u64>,
}

impl TemplateMemory {
    /// Notes what it is, unless that was done before. Reads all of it.
    pub(crate) fn sum(&self) -> io::Result<()> {
        let path = self.dir.join(SUMS);
        if path.try_exists()? {
            return Ok(());
        }
        let text = serde_json::to_string(&Sums::of(&File::open(self.dir.join(MEMORY))?)?)?;
        let text = format!("{text}\n{}\n", digest(text.as_bytes()));
        let unfinished = self.dir.join(UNFINISHED);
        fs::write(&unfinished, text)?;
        File::open(&unfinished)?.sync_all()?;
        super::rename(&unfinished, &path)
    }
}

impl Spaces {
    /// Whether a memory is what was summed. Without sums, as older versions kept memories, nothing is known against it.
    pub(crate) fn check_base(&self, base: &TemplateMemory) -> Result<(), BaseError> {
        let file = File::open(base.dir.join(MEMORY)).map_err(BaseError::Read)?;
        let metadata = file.metadata().map_err(BaseError::Read)?;
        let this: Checked = (
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked().contains(&this) {
            return Ok(());
        }
        let Some(sums) = Sums::read(&base.dir.join(SUMS)) else {
            return Ok(());
        };
        let found = Sums::of(&file).map_err(BaseError::Read)?;
        sums.compare(&found)?;
        let mut checked = checked();
        if checked.len() >= CHECKED_MAX {
            checked.remove(0);
        }
        checked.push(this);
        Ok(())
    }

    /// The memories that spaces lie over.
    fn bases(&self) -> Vec<TemplateMemory> {
        let entries = self.entries();
        let shared = entries
            .values()
            .filter(|entry| entry.meta.own_base_bytes.is_none());
        let mut ids: Vec<String> = shared.filter_map(|entry| entry.meta.base.clone()).collect();
        drop(entries);
        ids.sort_unstable();
        ids.dedup();
        ids.iter().filter_map(|id| self.template(id)).collect()
    }

    /// Checks them all, so that no resume has to. Damage is told; who needs it is refused.
    pub(crate) fn check_bases(self: &Arc<Self>) {
        for base in self.bases() {
            if let Err(error) = self.check_base(&base) {
                tracing::error!(%error, dir = %base.dir.display(), "spaces lie over a memory that is of no use");
            }
        }
    }
}

impl Sums {
    fn of(file: &File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let count = usize::try_from(bytes.div_ceil(PART_BYTES)).map_err(io::Error::other)?;
        let mut parts = Vec::with_capacity(count);
        let mut buffer = vec![0; READ_BYTES];
        let mut data = 0..0;
        for start in (0..bytes).step_by(usize::try_from(PART_BYTES).unwrap_or(usize::MAX)) {
            let end = bytes.min(start + PART_BYTES);
            let mut hash = XxHash64::with_seed(0);
            let mut at = start;
            while at < end {
                if at >= data.end {
                    data = next_data(file, at, bytes)?;
                }
                // Whole pages, whatever the file system tells.
                at = at.max(data.start & !(PAGE as u64 - 1));
                let stop = end.min(data.end.next_multiple_of(PAGE as u64));
                if at >= stop {
                    break;
                }
                let len = (stop - at).min(READ_BYTES as u64);
                let piece = buffer
                    .get_mut(..usize::try_from(len).unwrap_or(0))
                    .unwrap_or_default();
                file.read_exact_at(piece, at)?;
                for (page, content) in (at / PAGE as u64..).zip(piece.chunks(PAGE)) {
                    if content.iter().any(|byte| *byte != 0) {
                        hash.write_u64(page);
                        hash.write(content);
                    }
                }
                at += len;
            }
            parts.push(hash.finish());
        }
        Ok(Self {
            version: VERSION,
            bytes,
            parts,
        })
    }

    /// Sums that are of no use themselves say nothing of the memory.
    fn read(path: &PathBuf) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let sums = Self::decode(&text);
        if sums.is_none() {
            tracing::warn!(path = %path.display(), "the sums of a template's memory are damaged; it is not checked");
        }
        sums
    }

    fn decode(text: &str) -> Option<Self> {
        let (text, digests) = text.split_once('\n')?;
        let whole = digests.strip_suffix('\n')? == digest(text.as_bytes());
        let sums: Self = serde_json::from_str(text).ok()?;
        (whole && sums.version == VERSION).then_some(sums)
    }

    fn compare(&self, found: &Self) -> Result<(), BaseError> {
        let differs = self.parts.iter().zip(&found.parts).position(|(a, b)| a != b);
        let cut = (self.bytes != found.bytes).then_some(self.parts.len().min(found.parts.len()));
        match differs.or(cut) {
            None => Ok(()),
            Some(part) => {
                let from = part as u64 * PART_BYTES;
                Err(BaseError::Damaged {
                    from,
                    to: from + PART_BYTES,
                })
            }
        }
    }
}

/// Where a file has content from a place on; nowhere, at its end.
fn next_data(file: &File, at: u64, bytes: u64) -> io::Result<std::ops::Range<u64>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(bytes..bytes),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    Ok(start..end.min(bytes))
}

/// Of a memory that has just come.
pub(super) fn sum_in(dir: &Path) -> io::Result<()> {
    let dir = dir.to_owned();
    let base = TemplateMemory {
        dir,
        working_set: None,
    };
    base.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base(pages: &[(u16, u8)]) -> (tempfile::TempDir, TemplateMemory) {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(dir.path().join(MEMORY)).unwrap();
        for (page, value) in pages {
            file.write_all_at(&[*value; PAGE], u64::from(*page) * PAGE as u64)
                .unwrap();
        }
        file.write_all_at(&[7; 16], 1025 * PAGE as u64).unwrap();
        let base = TemplateMemory {
            dir: dir.path().to_owned(),
            working_set: None,
        };
        (dir, base)
    }

    fn spaces() -> (tempfile::TempDir, Arc<Spaces>) {
        let dir = tempfile::tempdir().unwrap();
        let spaces = Spaces::open(dir.path()).unwrap();
        (dir, spaces)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_byte_that_changes_is_noticed_and_holes_are_zeros(
            pages in proptest::collection::vec((0..1024_u16, any::<u8>()), 0..20),
            at in 0..1025 * 4096_u64 + 16, bits in 1..=255_u8,
        ) {
            let (_dir, base) = base(&pages);
            // One that has not looked yet: files are written faster than their times of change tell apart.
            let check = || spaces().1.check_base(&base);
            base.sum().unwrap();
            check().unwrap();
            let path = base.dir.join(MEMORY);
            // The same without holes, and written anew.
            let mut bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes).unwrap();
            check().unwrap();
            let at = usize::try_from(at).unwrap();
            bytes[at] ^= bits;
            fs::write(&path, &bytes).unwrap();
            let error = check().unwrap_err();
            let is_there = matches!(error, BaseError::Damaged { from, to } if from <= at as u64 && (at as u64) < to);
            prop_assert!(is_there, "{}", error);
            bytes[at] ^= bits;
            bytes.truncate(at);
            fs::write(&path, &bytes).unwrap();
            prop_assert!(check().is_err());
        }
    }

    #[test]
    fn what_was_found_whole_is_not_read_again_and_what_has_no_sums_is_let_be() {
        let ((_dir, base), (_other, spaces)) = (base(&[(3, 1)]), spaces());
        spaces.check_base(&base).unwrap();
        assert!(spaces.checked.lock().unwrap().is_empty());
        base.sum().unwrap();
        spaces.check_base(&base).unwrap();
        spaces.check_base(&base).unwrap();
        assert_eq!(spaces.checked.lock().unwrap().len(), 1);
        // Sums that are damaged are no reason to refuse somebody's work.
        fs::write(base.dir.join(SUMS), "{}\n\n").unwrap();
        fs::write(base.dir.join(MEMORY), "x").unwrap();
        spaces.check_base(&base).unwrap();
    }
}

//! RAM in a file: every page at its place, those that are all zeros left out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use thiserror::Error;
use vm_memory::{Bytes as _, GuestMemoryBackend as _, GuestMemoryRegion as _, MemoryRegionAddress};

use super::SnapshotId;
use crate::memory::{GuestMemory, MemoryError, PageSource};

/// Memory looked at and written at a time, in bytes.
const CHUNK_BYTES: usize = 2 << 20;
const PAGE: usize = 4096;

#[derive(Debug, Error)]
pub enum MemoryFileError {
    #[error("cannot tell which pages are in use")]
    Pages(#[source] io::Error),
    #[error("cannot read guest memory")]
    Guest(#[source] vm_memory::GuestMemoryError),
    #[error("cannot write the file")]
    Write(#[source] io::Error),
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    #[error("it belongs to another snapshot, or has been cut")]
    NotThis,
    #[error("cannot map it")]
    Map(#[source] MemoryError),
}

/// Writes RAM and the id behind it. The guest must stand still.
pub(crate) fn write(
    memory: &GuestMemory,
    pages: PageSource<'_>,
    id: SnapshotId,
    file: &File,
) -> Result<(), MemoryFileError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut base = 0;
    for region in memory.iter() {
        for offset in (0..region.len()).step_by(CHUNK_BYTES) {
            let len = (region.len() - offset).min(CHUNK_BYTES as u64);
            let chunk = buffer
                .get_mut(..usize::try_from(len).unwrap_or(0))
                .unwrap_or_default();
            if !pages
                .any_in_use(region, offset, chunk.len())
                .map_err(MemoryFileError::Pages)?
            {
                continue;
            }
            region
                .read_slice(chunk, MemoryRegionAddress(offset))
                .map_err(MemoryFileError::Guest)?;
            write_chunk(chunk, base + offset, file)?;
        }
        base += region.len();
    }
    // The file gets its length, whatever its end was.
    file.write_all_at(&id.bytes(), base)
        .map_err(MemoryFileError::Write)
}

/// Maps a file that belongs to the snapshot `id`.
pub(super) fn check(file: &File, ram_bytes: u64, id: SnapshotId) -> Result<(), MemoryFileError> {
    let bytes = file.metadata().map_err(MemoryFileError::Read)?.len();
    let mut end = [0; 16];
    if bytes != ram_bytes + end.len() as u64 {
        return Err(MemoryFileError::NotThis);
    }
    file.read_exact_at(&mut end, ram_bytes)
        .map_err(MemoryFileError::Read)?;
    if end != id.bytes() {
        return Err(MemoryFileError::NotThis);
    }
    Ok(())
}

/// Writes runs of pages that are not all zeros.
fn write_chunk(chunk: &[u8], at: u64, file: &File) -> Result<(), MemoryFileError> {
    let mut run: Option<usize> = None;
    for (index, page) in chunk.chunks(PAGE).enumerate() {
        let start = index * PAGE;
        match (run, is_zero(page)) {
            (None, false) => run = Some(start),
            (Some(from), true) => {
                write_run(chunk, from..start, at, file)?;
                run = None;
            }
            _ => {}
        }
    }
    run.map_or(Ok(()), |from| write_run(chunk, from..chunk.len(), at, file))
}

fn write_run(chunk: &[u8], run: std::ops::Range<usize>, at: u64, file: &File) -> Result<(), MemoryFileError> {
    let offset = at + run.start as u64;
    file.write_all_at(chunk.get(run).unwrap_or_default(), offset)
        .map_err(MemoryFileError::Write)
}

fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

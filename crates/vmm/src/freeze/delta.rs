//! What of memory has changed, into a file and back.
//!
//! ```text
//!   RAM    ..AAAA....BB..0000..CCCCCC     what the VM was made of: the template's memory, or zeros
//!   runs     AAAA    BB  0000  CCCCCC     in the state file
//!   file     AAAABBCCCCCC                 page by page, so that long runs are mapped where they belong
//! ```
//!
//! Which pages may have changed the kernel knows: those of which this process has a private copy, and those that are
//! mapped from the file of an earlier freeze. A copy that is equal to what it was made of is left out.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use thiserror::Error;
use vm_memory::{
    Bytes as _, GuestMemoryBackend as _, GuestMemoryRegion as _, GuestRegionMmap, MemoryRegionAddress,
};

use super::runs::{self, Change, Run};
use super::sums::{Summer, Sums};
use crate::layout::PAGE_BYTES;
use crate::memory::{self, GuestMemory, PageUse};

const PAGE: usize = 4096;
/// Pages looked at at a time.
const CHUNK_PAGES: usize = 256;

#[derive(Debug, Error)]
pub enum DeltaError {
    #[error("cannot tell which pages are in use")]
    Pages(#[source] io::Error),
    #[error("cannot read or write guest memory")]
    Guest(#[source] vm_memory::GuestMemoryError),
    #[error("cannot read what the VM was made of")]
    Base(#[source] io::Error),
    #[error("cannot write the memory that has changed")]
    Write(#[source] io::Error),
    #[error("cannot read the memory that has changed")]
    Read(#[source] io::Error),
    #[error("cannot map the memory that has changed")]
    Map(#[source] io::Error),
}

/// What was written.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    pub(crate) runs: Vec<Run>,
    pub(crate) sums: Sums,
}

/// Where it is written.
struct Writer<'a> {
    file: &'a File,
    delta: Vec<Run>,
    summer: Summer,
    at: u64,
    /// Compares with zeros, whatever lies under the regions.
    whole: bool,
    /// The pages of a chunk now, and as they were: kept from chunk to chunk, since fresh memory costs a page fault a page.
    now: Vec<u8>,
    before: Vec<u8>,
}

/// Writes the pages that differ from what the VM was made of, which lies under the regions if it is not zeros. `overlay`
/// is what it was restored over that. Without a pagemap all pages are looked at. The guest stands still.
pub(super) fn write(
    memory: &GuestMemory,
    overlay: &[Run],
    pagemap: Option<&File>,
    file: &File,
) -> Result<Delta, DeltaError> {
    let writer = Writer::new(file, false);
    writer.all(memory, |region, base| candidates(region, base, overlay, pagemap))
}

/// Writes all pages that are not zeros.
pub(super) fn write_whole(memory: &GuestMemory, file: &File) -> Result<Delta, DeltaError> {
    let writer = Writer::new(file, true);
    writer.all(memory, |region, base| candidates(region, base, &[], None))
}

/// Puts a delta over memory as it was made. `file` is the one that was written, and has been checked.
pub(super) fn lay_over(memory: &GuestMemory, runs: &[Run], file: &File) -> Result<(), DeltaError> {
    let mapped_from = runs::mapped_from(runs);
    let mut at = 0;
    for run in runs {
        for (region, offset, bytes) in parts(memory, run) {
            let source = run.stored.then_some((file, at));
            if run.count >= mapped_from {
                map(region, offset, bytes, source)?;
            } else {
                copy(region, offset, bytes, source)?;
            }
            at += if run.stored { bytes as u64 } else { 0 };
        }
    }
    Ok(())
}

impl<'a> Writer<'a> {
    fn new(file: &'a File, whole: bool) -> Self {
        Self {
            file,
            delta: Vec::new(),
            summer: Summer::new(),
            at: 0,
            whole,
            now: vec![0; CHUNK_PAGES * PAGE],
            before: vec![0; CHUNK_PAGES * PAGE],
        }
    }

    /// Looks at those pages of all regions that may have changed.
    fn all(
        mut self,
        memory: &GuestMemory,
        candidates: impl Fn(&GuestRegionMmap, u32) -> Result<Vec<bool>, DeltaError>,
    ) -> Result<Delta, DeltaError> {
        let mut base = 0;
        for region in memory.iter() {
            let candidates = candidates(region, base)?;
            for group in runs::groups(&candidates, CHUNK_PAGES) {
                let first = group.start;
                self.group(region, base, first, candidates.get(group).unwrap_or_default())?;
            }
            base += u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        }
        Ok(Delta {
            runs: self.delta,
            sums: self.summer.finish(),
        })
    }

    /// Looks at pages of a region, the first of which is `first` there; `base` is the number of the region's first. Pages
    /// between candidates are read, too, so there are only few of them.
    fn group(
        &mut self,
        region: &GuestRegionMmap,
        base: u32,
        first: usize,
        candidates: &[bool],
    ) -> Result<(), DeltaError> {
        let offset = (first * PAGE) as u64;
        let len = candidates.len() * PAGE;
        let now = self.now.get_mut(..len).unwrap_or_default();
        region
            .read_slice(now, MemoryRegionAddress(offset))
            .map_err(DeltaError::Guest)?;
        let before = self.before.get_mut(..len).unwrap_or_default();
        let known = !self.whole && content_before(region, offset, before)?;
        let mut changes = compare(now, known.then_some(before), candidates);
        runs::join(&mut changes);
        let mut stored = 0;
        while let Some(start) = changes
            .iter()
            .skip(stored)
            .position(|change| *change == Change::Data)
        {
            let start = stored + start;
            let run = changes.iter().skip(start);
            let end = start + run.take_while(|change| **change == Change::Data).count();
            let bytes = now.get(start * PAGE..end * PAGE).unwrap_or_default();
            self.file
                .write_all_at(bytes, self.at)
                .map_err(DeltaError::Write)?;
            self.at += bytes.len() as u64;
            self.summer.add(bytes);
            stored = end;
        }
        let page = u32::try_from(first).unwrap_or(u32::MAX);
        runs::append(&mut self.delta, base.saturating_add(page), &changes);
        Ok(())
    }
}

/// Which pages of a region may have changed.
fn candidates(
    region: &GuestRegionMmap,
    base: u32,
    overlay: &[Run],
    pagemap: Option<&File>,
) -> Result<Vec<bool>, DeltaError> {
    let Some(pagemap) = pagemap else {
        return Ok(vec![true; region.size() / PAGE]);
    };
    let uses = memory::uses(pagemap, region).map_err(DeltaError::Pages)?;
    let mut candidates: Vec<_> = uses.into_iter().map(|page| page == PageUse::Written).collect();
    for run in overlay {
        let first = u64::from(run.first).saturating_sub(u64::from(base));
        let end = run
            .end()
            .saturating_sub(u64::from(base))
            .min(candidates.len() as u64);
        let range = usize::try_from(first.min(end)).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        candidates.get_mut(range).unwrap_or_default().fill(true);
    }
    Ok(candidates)
}

/// Reads what the VM was made of at a place. False where that was zeros.
fn content_before(region: &GuestRegionMmap, offset: u64, before: &mut [u8]) -> Result<bool, DeltaError> {
    let Some(file) = region.file_offset() else {
        return Ok(false);
    };
    let start = file.start() + offset;
    match rustix::fs::seek(file.file(), SeekFrom::Data(start)) {
        Ok(data) if data < start + before.len() as u64 => {}
        // A hole, up to the end or beyond.
        Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(false),
        Err(error) => return Err(DeltaError::Base(error.into())),
    }
    file.file()
        .read_exact_at(before, start)
        .map_err(DeltaError::Base)?;
    Ok(true)
}

fn compare(now: &[u8], before: Option<&mut [u8]>, candidates: &[bool]) -> Vec<Change> {
    let (zeros, before) = ([0; PAGE], before.map(|before| &*before));
    let page = |index: usize, now: &[u8]| {
        let was = before.map_or(Some(&zeros[..]), |before| {
            before.get(index * PAGE..(index + 1) * PAGE)
        });
        if was == Some(now) {
            Change::None
        } else if now == zeros {
            Change::Zeros
        } else {
            Change::Data
        }
    };
    let pages = now.chunks(PAGE).zip(candidates).enumerate();
    pages
        .map(|(index, (now, is))| if *is { page(index, now) } else { Change::None })
        .collect()
}

/// The parts of a run that lie in one region each: the region, the offset there, and the length, in bytes.
fn parts<'a>(memory: &'a GuestMemory, run: &Run) -> Vec<(&'a GuestRegionMmap, usize, usize)> {
    let (start, end) = (u64::from(run.first) * PAGE_BYTES, run.end() * PAGE_BYTES);
    let mut base = 0;
    let mut parts = Vec::new();
    for region in memory.iter() {
        let (from, to) = (start.max(base), end.min(base + region.len()));
        if from < to
            && let (Ok(offset), Ok(bytes)) = (usize::try_from(from - base), usize::try_from(to - from))
        {
            parts.push((region, offset, bytes));
        }
        base += region.len();
    }
    parts
}

/// Maps a part of the file, or zeros, over a part of a region. What the guest writes there stays in memory.
fn map(
    region: &GuestRegionMmap,
    offset: usize,
    bytes: usize,
    source: Option<(&File, u64)>,
) -> Result<(), DeltaError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let (flags, descriptor, at) = match source {
        Some((file, at)) => (flags, file.as_raw_fd(), at),
        None => (flags | libc::MAP_ANONYMOUS, -1, 0),
    };
    let at = libc::off_t::try_from(at).map_err(|error| DeltaError::Map(io::Error::other(error)))?;
    // SAFETY: the range is within the mapping of `region`, which owns it and unmaps all of it in the end; it has no
    // references into it, and nobody else uses it yet.
    let mapped = unsafe {
        libc::mmap(
            region.as_ptr().wrapping_add(offset).cast(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            descriptor,
            at,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(DeltaError::Map(io::Error::last_os_error()));
    }
    Ok(())
}

fn copy(
    region: &GuestRegionMmap,
    offset: usize,
    bytes: usize,
    source: Option<(&File, u64)>,
) -> Result<(), DeltaError> {
    let mut buffer = vec![0; bytes];
    if let Some((file, at)) = source {
        file.read_exact_at(&mut buffer, at).map_err(DeltaError::Read)?;
    }
    region
        .write_slice(&buffer, MemoryRegionAddress(offset as u64))
        .map_err(DeltaError::Guest)
}

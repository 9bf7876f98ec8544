//! Which pages of guest memory there are in this process, from `/proc/self/pagemap`.
//!
//! One 64-bit entry per page (`Documentation/admin-guide/mm/pagemap.rst` of Linux).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use vm_memory::{GuestMemoryRegion as _, GuestRegionMmap};

use crate::layout::PAGE_BYTES;
use crate::proc::Proc;

/// Its name under `/proc/self`.
pub(crate) const PAGEMAP: &str = "pagemap";

const ENTRY_BYTES: u64 = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// A page of the file that is mapped, or shared memory: nobody has written to it here.
const OF_FILE: u64 = 1 << 61;

/// What one page is to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageUse {
    Untouched,
    /// The file's page is mapped.
    Read,
    /// There is a private copy.
    Written,
}

/// Where it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageSource<'a>(pub(crate) &'a Proc);

impl PageSource<'_> {
    /// Whether a part of a region may hold anything but zeros: a page is there, or the file under it has data.
    pub(crate) fn any_in_use(&self, region: &GuestRegionMmap, offset: u64, len: usize) -> io::Result<bool> {
        let entries = self.entries(region, offset, len)?;
        if entries.iter().any(|entry| entry & (PRESENT | SWAPPED) != 0) {
            return Ok(true);
        }
        let Some(file) = region.file_offset() else {
            return Ok(false);
        };
        let start = file.start() + offset;
        match rustix::fs::seek(file.file(), SeekFrom::Data(start)) {
            Ok(data) => Ok(data < start + len as u64),
            // No data up to the end.
            Err(rustix::io::Errno::NXIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What each page of a region is, from the first on.
    pub(crate) fn uses(&self, region: &GuestRegionMmap) -> io::Result<Vec<PageUse>> {
        uses(&self.0.open(PAGEMAP)?, region)
    }

    fn entries(&self, region: &GuestRegionMmap, offset: u64, len: usize) -> io::Result<Vec<u64>> {
        entries(&self.0.open(PAGEMAP)?, region, offset, len)
    }
}

/// What each page of a region is, from the first on, as this process's pagemap has it.
pub(crate) fn uses(pagemap: &File, region: &GuestRegionMmap) -> io::Result<Vec<PageUse>> {
    let entries = entries(pagemap, region, 0, region.size())?;
    let of = |entry: u64| match (entry & (PRESENT | SWAPPED), entry & OF_FILE) {
        (0, _) => PageUse::Untouched,
        (_, 0) => PageUse::Written,
        _ => PageUse::Read,
    };
    Ok(entries.into_iter().map(of).collect())
}

/// The entries of a part of a region.
fn entries(pagemap: &File, region: &GuestRegionMmap, offset: u64, len: usize) -> io::Result<Vec<u64>> {
    let first = (region.as_ptr() as u64 + offset) / PAGE_BYTES;
    let count = (len as u64).div_ceil(PAGE_BYTES);
    let mut bytes = vec![0; usize::try_from(count * ENTRY_BYTES).unwrap_or(0)];
    pagemap.read_exact_at(&mut bytes, first * ENTRY_BYTES)?;
    let (entries, _) = bytes.as_chunks::<8>();
    Ok(entries.iter().map(|entry| u64::from_ne_bytes(*entry)).collect())
}

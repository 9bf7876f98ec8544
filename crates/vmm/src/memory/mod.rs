//! Guest memory: the one type every part of this crate reaches it through.
//!
//! It is touched only through volatile accessors of `vm-memory`; no Rust reference into it ever exists, because the
//! guest writes to it at any time.
//!
//! The mappings are private, anonymous and not reserved, so that a fork of this process shares them copy-on-write
//! and an idle guest costs what it touched, not what it was promised.

mod pages;

use std::fs::File;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use thiserror::Error;
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder, MmapRegionError};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion, GuestRegionCollectionError,
    GuestRegionMmap,
};

use crate::layout::{HIGH_RAM_START, HOLE_END, HOLE_START};

#[cfg(test)]
pub(crate) use pages::PAGEMAP;
pub(crate) use pages::{PageSource, PageUse, uses};

/// All RAM of one guest.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

/// Least RAM a guest may have, in MiB: the kernel and its initrd have to fit.
pub const RAM_MIB_MIN: u32 = 64;
/// Most RAM a guest may have, in MiB.
pub const RAM_MIB_MAX: u32 = 1024 * 1024;

#[derive(Debug, Error)]
pub enum MemoryError {
    #[error("{ram_mib} MiB of RAM is not between {RAM_MIB_MIN} and {RAM_MIB_MAX}")]
    Size { ram_mib: u32 },
    #[error("cannot map {ram_mib} MiB of guest memory")]
    Map {
        ram_mib: u32,
        #[source]
        source: FromRangesError,
    },
    #[error("cannot map a file as {ram_mib} MiB of guest memory")]
    MapFile {
        ram_mib: u32,
        #[source]
        source: MmapRegionError,
    },
    #[error("{ram_mib} MiB of guest memory do not form an address space")]
    Regions {
        ram_mib: u32,
        #[source]
        source: GuestRegionCollectionError,
    },
}

/// Maps `ram_mib` MiB of fresh memory: below the hole as much as fits, the rest above 4 GiB.
///
/// # Errors
/// A size outside the limits, or the host refuses the mapping.
pub(crate) fn allocate(ram_mib: u32) -> Result<GuestMemory, MemoryError> {
    let ranges = ram_ranges(ram_mib)?;
    let memory = GuestMemory::from_ranges(&ranges).map_err(|source| MemoryError::Map { ram_mib, source })?;
    advise_huge_pages(&memory);
    Ok(memory)
}

/// Maps RAM over a file that has it, in the order of addresses. What the guest writes stays in memory; what it does not
/// is shared with all who map the file.
pub(crate) fn map(ram_mib: u32, file: File) -> Result<GuestMemory, MemoryError> {
    let file = Arc::new(file);
    let mut offset = 0;
    let mut regions = Vec::new();
    for (start, bytes) in ram_ranges(ram_mib)? {
        let mapping = MmapRegionBuilder::new(bytes)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::from_arc(Arc::clone(&file), offset))
            .build()
            .map_err(|source| MemoryError::MapFile { ram_mib, source })?;
        regions.extend(GuestRegionMmap::new(mapping, start));
        offset += bytes as u64;
    }
    GuestMemory::from_regions(regions).map_err(|source| MemoryError::Regions { ram_mib, source })
}

pub(crate) fn size_mib(memory: &GuestMemory) -> u32 {
    let bytes: u64 = memory.iter().map(GuestMemoryRegion::len).sum();
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

/// Of the files that are mapped.
pub(crate) fn descriptors(memory: &GuestMemory) -> Vec<RawFd> {
    let files = memory.iter().filter_map(GuestMemoryRegion::file_offset);
    files.map(|file| file.file().as_raw_fd()).collect()
}

/// End of the RAM below the hole.
pub(crate) fn low_ram_end(memory: &GuestMemory) -> u64 {
    memory
        .iter()
        .map(|region| region.start_addr().0 + region.len())
        .find(|end| *end > HIGH_RAM_START)
        .unwrap_or(HIGH_RAM_START)
}

fn ram_ranges(ram_mib: u32) -> Result<Vec<(GuestAddress, usize)>, MemoryError> {
    if !(RAM_MIB_MIN..=RAM_MIB_MAX).contains(&ram_mib) {
        return Err(MemoryError::Size { ram_mib });
    }
    let bytes = u64::from(ram_mib) << 20;
    let below = bytes.min(HOLE_START);
    let parts = [(0, below), (HOLE_END, bytes - below)];
    let bytes_of = |len: u64| usize::try_from(len).map_err(|_| MemoryError::Size { ram_mib });
    parts
        .into_iter()
        .filter(|(_, len)| *len > 0)
        .map(|(start, len)| Ok((GuestAddress(start), bytes_of(len)?)))
        .collect()
}

/// Asks for 2 MiB pages. A boot touches memory all over, and a nested page fault per 4 KiB page is most of its cost
/// under emulation. Only a wish: a host without transparent huge pages serves small ones.
fn advise_huge_pages(memory: &GuestMemory) {
    for region in memory.iter() {
        // SAFETY: the range is exactly one mapping that `memory` owns, and this advice changes no content.
        let _ = unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_guests_have_one_range() {
        assert_eq!(ram_ranges(256).unwrap(), [(GuestAddress(0), 256 << 20)]);
    }

    #[test]
    fn ram_that_reaches_the_hole_goes_on_above_four_gib() {
        let ranges = ram_ranges(5 * 1024).unwrap();
        assert_eq!(
            ranges,
            [
                (GuestAddress(0), 0xd000_0000),
                (GuestAddress(HOLE_END), 0x7000_0000)
            ]
        );
        let total: usize = ranges.iter().map(|(_, len)| len).sum();
        assert_eq!(total, 5 << 30);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(ram_ranges(0).is_err());
        assert!(ram_ranges(u32::MAX).is_err());
    }
}

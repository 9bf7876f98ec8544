//! Huge pages where they help clones.
//!
//! * Memory that clones read and do not write lies on huge pages of the VM they are cloned from. The kernel's code is
//!   most of it. On small pages each page of it costs every clone a fault of its own; on a huge page, which all clones
//!   share, 512 of them cost one. A page of it that a clone writes all the same is split off in that clone alone.
//! * Memory that nobody has used before the snapshot was taken becomes a clone's own, 2 MiB at a time, as its guest
//!   begins to use it: one fault instead of 512, and what a guest takes, it takes mostly in a row. Such memory has
//!   nothing to do with the snapshot's file any more, where it would be zeros.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;

use rustix::fs::SeekFrom;
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _, GuestRegionMmap};

use super::{PageRange, WorkingSet};
use crate::layout::PAGE_BYTES;
use crate::log;
use crate::memory::GuestMemory;

const HUGE_BYTES: usize = 2 << 20;
const HUGE_PAGES: u32 = 512;

/// A huge page pays for itself when so many of its pages are read: it saves their faults, and costs 2 MiB of the host's
/// memory once for each template.
const READ_MIN: u32 = 8;

/// Prepares the memory of a VM that has not run. Only a matter of speed: what cannot be done stays as it is.
pub(crate) fn prepare(set: &mut WorkingSet, memory: &GuestMemory) {
    // First, while the set has all pages.
    if let Err(error) = free_the_unused(set, memory) {
        log::line(format_args!(
            "memory that was not used before keeps small pages: {error}"
        ));
    }
    put_on_huge_pages(set, memory);
}

/// Copies what is read only to huge pages, and has clones ask for each as a whole.
fn put_on_huge_pages(set: &mut WorkingSet, memory: &GuestMemory) {
    let mut moved = Vec::new();
    for chunk in worthwhile(set) {
        match relocate(chunk, memory) {
            Ok(true) => moved.push(chunk),
            Ok(false) => {}
            Err(error) => {
                log::line(format_args!("no more huge pages for what clones read: {error}"));
                break;
            }
        }
    }
    set.ask_as_a_whole(&moved);
}

/// How many pages of each huge page are in these ranges.
fn counts(ranges: &[PageRange]) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    for range in ranges {
        for page in range.first..range.first.saturating_add(range.count) {
            *counts.entry(page / HUGE_PAGES).or_default() += 1;
        }
    }
    counts
}

/// Numbers of the huge pages that are worth it, in order.
fn worthwhile(set: &WorkingSet) -> Vec<u32> {
    let written = counts(&set.written);
    counts(&set.read)
        .into_iter()
        .filter(|(chunk, count)| *count >= READ_MIN && !written.contains_key(chunk))
        .map(|(chunk, _)| chunk)
        .collect()
}

impl WorkingSet {
    /// Instead of the pages of these huge pages, their first ones are read.
    fn ask_as_a_whole(&mut self, chunks: &[u32]) {
        let is_one = |page: u32| chunks.binary_search(&(page / HUGE_PAGES)).is_ok();
        let mut read = Vec::with_capacity(self.read.len());
        for range in &self.read {
            for page in range.first..range.first.saturating_add(range.count) {
                if !is_one(page) {
                    super::record::append(&mut read, page);
                }
            }
        }
        read.extend(chunks.iter().map(|chunk| PageRange {
            first: chunk * HUGE_PAGES,
            count: 1,
        }));
        read.sort_unstable_by_key(|range| range.first);
        self.read = read;
    }
}

/// Lets go of the file where it has nothing, in whole huge pages that are not in the set: a page of those is a small page
/// in every clone.
fn free_the_unused(set: &WorkingSet, memory: &GuestMemory) -> io::Result<()> {
    let (written, read) = (counts(&set.written), counts(&set.read));
    let mut base: u32 = 0;
    for region in memory.iter() {
        let pages = u32::try_from(region.len() / PAGE_BYTES).unwrap_or(u32::MAX);
        if let Some(file) = region.file_offset().filter(|_| is_aligned(region)) {
            for hole in holes(file.file(), file.start(), region.len())? {
                let huge_pages = hole.start.div_ceil(HUGE_BYTES as u64)..hole.end / HUGE_BYTES as u64;
                for page in huge_pages {
                    let number = base / HUGE_PAGES + u32::try_from(page).unwrap_or(u32::MAX);
                    if !written.contains_key(&number) && !read.contains_key(&number) {
                        free(region, page * HUGE_BYTES as u64)?;
                    }
                }
            }
        }
        base = base.saturating_add(pages);
    }
    Ok(())
}

/// Where a part of a file has no data, from its start on.
fn holes(file: &File, start: u64, len: u64) -> io::Result<Vec<Range<u64>>> {
    let (mut holes, end) = (Vec::new(), start + len);
    let mut at = start;
    while at < end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            // No data up to the end.
            Err(rustix::io::Errno::NXIO) => end,
            Err(error) => return Err(error.into()),
        };
        if data > at {
            holes.push(at - start..data - start);
        }
        if data == end {
            break;
        }
        at = rustix::fs::seek(file, SeekFrom::Hole(data))?;
    }
    Ok(holes)
}

/// Whether its huge pages are those of the process, too.
fn is_aligned(region: &GuestRegionMmap) -> bool {
    (region.as_ptr() as usize).is_multiple_of(HUGE_BYTES)
        && region.start_addr().0.is_multiple_of(HUGE_BYTES as u64)
}

/// Maps fresh memory at this place of a region.
fn free(region: &GuestRegionMmap, offset: u64) -> io::Result<()> {
    let offset = usize::try_from(offset).map_err(io::Error::other)?;
    let place = region.as_ptr().wrapping_add(offset);
    // SAFETY: the range is part of the mapping of `region`, which is zeros there and is so afterwards; the guest does not
    // run.
    unsafe {
        let mapped = libc::mmap(
            place.cast(),
            HUGE_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        );
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Only a wish: a host without huge pages gives small ones.
        libc::madvise(mapped, HUGE_BYTES, libc::MADV_HUGEPAGE);
    }
    Ok(())
}

/// `false` when it does not lie in one region, or not so that a huge page fits.
fn relocate(chunk: u32, memory: &GuestMemory) -> io::Result<bool> {
    let mut start = u64::from(chunk) * HUGE_BYTES as u64;
    for region in memory.iter() {
        if start < region.len() {
            return relocate_in(region, start);
        }
        start -= region.len();
    }
    Ok(false)
}

fn relocate_in(region: &GuestRegionMmap, offset: u64) -> io::Result<bool> {
    let Some(file) = region.file_offset() else {
        return Ok(false);
    };
    let Ok(start) = usize::try_from(offset) else {
        return Ok(false);
    };
    let place = region.as_ptr().wrapping_add(start);
    let fits = offset + HUGE_BYTES as u64 <= region.len() && is_aligned(region);
    let Some(place) = NonNull::new(place).filter(|_| fits) else {
        return Ok(false);
    };
    let copy = Copied::of(file.file(), file.start() + offset)?;
    // SAFETY: the range is part of a mapping of `memory`, and holds then what it held before; the guest does not run.
    unsafe { copy.put(place) }?;
    Ok(true)
}

/// A huge page with content, not at its place yet.
struct Copied {
    mapping: NonNull<u8>,
    page: NonNull<u8>,
}

impl Copied {
    fn of(file: &File, offset: u64) -> io::Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choice.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * HUGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = mapping.cast::<u8>();
        let page = mapping.wrapping_add(mapping.align_offset(HUGE_BYTES));
        let (Some(mapping), Some(page)) = (NonNull::new(mapping), NonNull::new(page)) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let copied = Self { mapping, page };
        // SAFETY: the range lies in the mapping just made, and nobody else knows of it.
        unsafe {
            // Only a wish, as everywhere: on a host without huge pages it becomes small ones.
            libc::madvise(page.as_ptr().cast(), HUGE_BYTES, libc::MADV_HUGEPAGE);
            let bytes = std::slice::from_raw_parts_mut(page.as_ptr(), HUGE_BYTES);
            file.read_exact_at(bytes, offset)?;
        }
        Ok(copied)
    }

    /// Moves the page to `place`, in the stead of what is mapped there.
    ///
    /// # Safety
    /// `place` is aligned, and so many bytes from there belong to a mapping whose content the page has.
    unsafe fn put(self, place: NonNull<u8>) -> io::Result<()> {
        // SAFETY: the page lies in our own mapping; the caller vouches for the place.
        let moved = unsafe {
            libc::mremap(
                self.page.as_ptr().cast(),
                HUGE_BYTES,
                HUGE_BYTES,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                place.as_ptr(),
            )
        };
        if moved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // SAFETY: nobody but this has the mapping. The hole that a page that was moved left in it does not matter.
        let _ = unsafe { libc::munmap(self.mapping.as_ptr().cast(), 2 * HUGE_BYTES) };
    }
}

const _: () = assert!(HUGE_PAGES as u64 * PAGE_BYTES == HUGE_BYTES as u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::{Bytes as _, GuestAddress};

    use super::*;
    use crate::memory;
    use crate::snapshot::SnapshotId;

    fn set(written: &[(u32, u32)], read: &[(u32, u32)]) -> WorkingSet {
        let ranges = |pairs: &[(u32, u32)]| {
            pairs
                .iter()
                .map(|&(first, count)| PageRange { first, count })
                .collect()
        };
        WorkingSet {
            snapshot: SnapshotId::new().unwrap(),
            written: ranges(written),
            read: ranges(read),
        }
    }

    #[test]
    fn what_is_written_or_hardly_read_stays_where_it_is() {
        let set = set(
            &[(515, 1)],
            &[(0, 8), (520, 100), (1024, 7), (1536, 4), (1600, 4)],
        );
        assert_eq!(worthwhile(&set), [0, 3]);
    }

    #[test]
    fn a_huge_page_is_asked_for_once() {
        let mut set = set(&[], &[(3, 1), (500, 20), (1030, 2), (1100, 1)]);
        set.ask_as_a_whole(&[0, 2]);
        let expected = [(0, 1), (512, 8), (1024, 1)].map(|(first, count)| PageRange { first, count });
        assert_eq!(set.read, expected);
    }

    #[test]
    fn holes_are_where_nothing_was_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16 << 20).unwrap();
        file.write_all_at(&[1; 4096], 4 << 20).unwrap();
        assert_eq!(
            holes(&file, 0, 16 << 20).unwrap(),
            [0..4 << 20, (4 << 20) + 4096..16 << 20]
        );
        assert_eq!(holes(&file, 4 << 20, 4096).unwrap(), []);
        assert_eq!(
            holes(&file, 8 << 20, 1 << 20).unwrap().first(),
            Some(&(0..1 << 20))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn memory_is_what_it_was(seed: u8, chunks in prop::collection::btree_set(0_u32..32, 0..4)) {
            let file = tempfile::tempfile().unwrap();
            file.set_len(64 << 20).unwrap();
            let has_data = |page: u64| page >> 11 & 1 == 0;
            let content = |page: u64| [seed, page.to_le_bytes()[0], page.to_le_bytes()[1], 0];
            for page in (0..64 << 8).filter(|page| has_data(*page)) {
                file.write_all_at(&content(page), page << 12).unwrap();
            }
            let memory = memory::map(64, file).unwrap();
            let read: Vec<_> = chunks.iter().map(|chunk| (chunk * HUGE_PAGES + 1, READ_MIN)).collect();
            prepare(&mut set(&[], &read), &memory);
            for page in 0..64 << 8 {
                let mut found = [0; 4];
                memory.read_slice(&mut found, GuestAddress(page << 12)).unwrap();
                let expected = if has_data(page) { content(page) } else { [0; 4] };
                prop_assert_eq!(found, expected);
            }
            for address in [5, 9, 31].map(|mib| GuestAddress(mib << 20)) {
                memory.write_obj(1_u8, address).unwrap();
                prop_assert_eq!(memory.read_obj::<u8>(address).unwrap(), 1);
            }
        }
    }
}

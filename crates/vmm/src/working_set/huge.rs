//! Memory that clones read and do not write, on huge pages of the VM they are cloned from.
//!
//! The kernel's code is most of it. On small pages each page of it costs every clone a fault of its own; on a huge page,
//! which all clones share, 512 of them cost one. A page of it that a clone writes all the same is split off in that
//! clone alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;

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

/// Copies such parts of memory to huge pages, and has clones ask for each as a whole. The VM has not run. Only a matter
/// of speed: what cannot be copied stays as it is.
pub(crate) fn put_on_huge_pages(set: &mut WorkingSet, memory: &GuestMemory) {
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

/// Numbers of the huge pages that are worth it, in order.
fn worthwhile(set: &WorkingSet) -> Vec<u32> {
    let pages = |ranges: &[PageRange]| {
        let mut counts = std::collections::BTreeMap::<u32, u32>::new();
        for range in ranges {
            for page in range.first..range.first.saturating_add(range.count) {
                *counts.entry(page / HUGE_PAGES).or_default() += 1;
            }
        }
        counts
    };
    let written = pages(&set.written);
    let read = pages(&set.read);
    read.into_iter()
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
    let fits = offset + HUGE_BYTES as u64 <= region.len()
        && (place as usize).is_multiple_of(HUGE_BYTES)
        && (region.start_addr().0 + offset).is_multiple_of(HUGE_BYTES as u64);
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
        let set = set(&[(515, 1)], &[(0, 8), (520, 100), (1024, 7), (1536, 4), (1600, 4)]);
        assert_eq!(worthwhile(&set), [0, 3]);
    }

    #[test]
    fn a_huge_page_is_asked_for_once() {
        let mut set = set(&[], &[(3, 1), (500, 20), (1030, 2), (1100, 1)]);
        set.ask_as_a_whole(&[0, 2]);
        let expected = [(0, 1), (512, 8), (1024, 1)].map(|(first, count)| PageRange { first, count });
        assert_eq!(set.read, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn memory_is_what_it_was(seed: u8, chunks in prop::collection::btree_set(0_u32..32, 0..4)) {
            let file = tempfile::tempfile().unwrap();
            file.set_len(64 << 20).unwrap();
            for page in 0..64 << 8 {
                file.write_all_at(&[seed, page as u8, (page >> 8) as u8], page << 12).unwrap();
            }
            let memory = memory::map(64, file).unwrap();
            let read: Vec<_> = chunks.iter().map(|chunk| (chunk * HUGE_PAGES + 1, READ_MIN)).collect();
            put_on_huge_pages(&mut set(&[], &read), &memory);
            for page in 0..64 << 8 {
                let mut found = [0; 4];
                memory.read_slice(&mut found, GuestAddress(page << 12)).unwrap();
                prop_assert_eq!(found, [seed, page as u8, (page >> 8) as u8, 0]);
            }
            memory.write_obj(1_u8, GuestAddress(5 << 20)).unwrap();
            prop_assert_eq!(memory.read_obj::<u8>(GuestAddress(5 << 20)).unwrap(), 1);
        }
    }
}

//! Which pages a clone has touched.

use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::Advice;
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::{PageRange, WorkingSet, WorkingSetError};
use crate::log;
use crate::memory::{GuestMemory, PageSource, PageUse};
use crate::snapshot::SnapshotId;

/// Looks at what this process has in memory. The guest stands still.
pub(crate) fn record(
    memory: &GuestMemory,
    pages: PageSource<'_>,
    snapshot: SnapshotId,
) -> Result<WorkingSet, WorkingSetError> {
    let mut set = WorkingSet {
        snapshot,
        written: Vec::new(),
        read: Vec::new(),
    };
    let mut page: u32 = 0;
    for region in memory.iter() {
        for kind in pages.uses(region).map_err(WorkingSetError::Pages)? {
            match kind {
                PageUse::Untouched => {}
                PageUse::Written => append(&mut set.written, page),
                PageUse::Read => append(&mut set.read, page),
            }
            page = page.saturating_add(1);
        }
    }
    log::line(format_args!(
        "the guest has written {} pages in {} runs and read {} more in {}",
        count(&set.written),
        set.written.len(),
        count(&set.read),
        set.read.len()
    ));
    Ok(set)
}

fn count(ranges: &[PageRange]) -> u64 {
    ranges.iter().map(|range| u64::from(range.count)).sum()
}

/// Takes the files under guest memory out of the page cache and has the kernel read page by page, so that what comes
/// back is what was touched. The guest has not run.
pub(crate) fn forget_cached_pages(memory: &GuestMemory) -> io::Result<()> {
    for region in memory.iter() {
        let Some(file) = region.file_offset() else {
            continue;
        };
        // SAFETY: the range is one mapping of `memory`; this advice changes no content.
        if unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_RANDOM) } != 0 {
            return Err(io::Error::last_os_error());
        }
        rustix::fs::fadvise(file.file().as_fd(), 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Adds a page that follows all before it.
pub(super) fn append(ranges: &mut Vec<PageRange>, page: u32) {
    match ranges.last_mut() {
        Some(range) if range.first + range.count == page => range.count += 1,
        _ => ranges.push(PageRange {
            first: page,
            count: 1,
        }),
    }
}

//! Having pages ready before a clone runs.
//!
//! Two steps, with the building of the VM between them: private copies of what will be written are made before KVM
//! watches the memory, and then everything is put into the nested page table. Both are only a matter of speed: whatever
//! fails here, the guest faults the page in by itself.

use kvm_bindings::kvm_pre_fault_memory;
use kvm_ioctls::VcpuFd;
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _, GuestRegionMmap};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

use super::{PageRange, WorkingSet};
use crate::layout::PAGE_BYTES;
use crate::memory::GuestMemory;

const KVMIO: u32 = 0xae;
ioctl_iowr_nr!(KVM_PRE_FAULT_MEMORY, KVMIO, 0xd5, kvm_pre_fault_memory);

/// Makes private copies of the pages that will be written.
pub(crate) fn populate(set: &WorkingSet, memory: &GuestMemory) {
    for range in &set.written {
        each_part(range, memory, |region, offset, bytes| {
            let Ok(bytes) = usize::try_from(bytes) else {
                return;
            };
            // SAFETY: the part lies within the mapping of `region`; the advice changes no content.
            let _ = unsafe {
                libc::madvise(
                    region.as_ptr().wrapping_add(offset).cast(),
                    bytes,
                    libc::MADV_POPULATE_WRITE,
                )
            };
        });
    }
}

/// Puts all pages of the set into the nested page table. Says whether this kernel can (Linux 6.11 and later).
pub(crate) fn map_for_guest(set: &WorkingSet, memory: &GuestMemory, vcpu: &VcpuFd) -> bool {
    merged(&set.written, &set.read).iter().all(|range| {
        let mut done = true;
        each_part(range, memory, |region, offset, bytes| {
            let address = GuestAddress(region.start_addr().0 + offset as u64);
            done &= pre_fault(vcpu, address, bytes).is_ok();
        });
        done
    })
}

fn pre_fault(vcpu: &VcpuFd, address: GuestAddress, bytes: u64) -> Result<(), errno::Error> {
    let mut range = kvm_pre_fault_memory {
        gpa: address.0,
        size: bytes,
        ..Default::default()
    };
    while range.size > 0 {
        // SAFETY: `vcpu` is a vCPU's descriptor, and the kernel reads and writes the structure and nothing else of ours.
        if unsafe { ioctl_with_mut_ref(vcpu, KVM_PRE_FAULT_MEMORY(), &mut range) } != 0 {
            match errno::Error::last() {
                // It says in the structure how far it got.
                error if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                error => return Err(error),
            }
        }
    }
    Ok(())
}

/// Calls for each part of a range that lies in one region, with its offset there and its length in bytes.
fn each_part(range: &PageRange, memory: &GuestMemory, mut call: impl FnMut(&GuestRegionMmap, usize, u64)) {
    let (mut start, end) = (
        u64::from(range.first) * PAGE_BYTES,
        (u64::from(range.first) + u64::from(range.count)) * PAGE_BYTES,
    );
    let mut base = 0;
    for region in memory.iter() {
        let region_end = base + region.len();
        if start >= base && start < end.min(region_end) {
            let bytes = end.min(region_end) - start;
            if let Ok(offset) = usize::try_from(start - base) {
                call(region, offset, bytes);
            }
            start += bytes;
        }
        base = region_end;
    }
}

/// Both lists as one, neighbours joined. Joining over a gap of a page or more, to save system calls, was tried: the
/// pages in between cost more.
fn merged(one: &[PageRange], other: &[PageRange]) -> Vec<PageRange> {
    let mut all = [one, other].concat();
    all.sort_unstable_by_key(|range| range.first);
    let mut joined: Vec<PageRange> = Vec::with_capacity(all.len());
    for range in all {
        match joined.last_mut() {
            Some(last) if range.first <= last.first + last.count => {
                last.count = range.first + range.count - last.first;
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(first: u32, count: u32) -> PageRange {
        PageRange { first, count }
    }

    #[test]
    fn neighbours_become_one_range() {
        let joined = merged(
            &[range(0, 2), range(10, 1)],
            &[range(2, 3), range(6, 1), range(20, 5)],
        );
        assert_eq!(joined, [range(0, 5), range(6, 1), range(10, 1), range(20, 5)]);
    }

    #[test]
    fn a_range_across_the_hole_is_split() {
        let ranges = [(GuestAddress(0), 4 << 12), (GuestAddress(1 << 32), 4 << 12)];
        let memory = GuestMemory::from_ranges(&ranges).unwrap();
        let mut parts = Vec::new();
        each_part(&range(2, 4), &memory, |region, offset, bytes| {
            parts.push((region.start_addr().0, offset, bytes));
        });
        assert_eq!(parts, [(0, 2 << 12, 2 << 12), (1 << 32, 0, 2 << 12)]);
        parts.clear();
        each_part(&range(5, 1), &memory, |region, offset, bytes| {
            parts.push((region.start_addr().0, offset, bytes));
        });
        assert_eq!(parts, [(1 << 32, 1 << 12, 1 << 12)]);
    }
}

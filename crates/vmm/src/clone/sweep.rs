//! Closing what a forked child has inherited and has no use for.
//!
//! Descriptors of threads that do not exist in the child (vCPUs, their VM, doorbells) have no owner left to close them,
//! and while one is open, the parent's VM outlives the parent. So everything is closed but a list.

use std::os::fd::RawFd;

/// Standard input, output and error stay.
const STANDARD: [RawFd; 3] = [0, 1, 2];

/// Closes every descriptor that is not in `kept`.
///
/// WARNING: whoever owns one of the others must be gone, or never be dropped.
pub(crate) fn close_all_but(kept: impl IntoIterator<Item = RawFd>) {
    for (first, last) in gaps(kept) {
        // SAFETY: the descriptors have no owner any more (see above). The call fails only for a range that is empty,
        // which these are not, or on kernels before 5.9, which have no such call and cannot run clones anyway.
        let _ = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// The ranges between the descriptors to keep, both ends included.
fn gaps(kept: impl IntoIterator<Item = RawFd>) -> Vec<(u32, u32)> {
    let mut kept: Vec<_> = kept
        .into_iter()
        .chain(STANDARD)
        .filter_map(|fd| u32::try_from(fd).ok())
        .collect();
    kept.sort_unstable();
    kept.dedup();
    let mut gaps = Vec::new();
    let mut next = 0;
    for fd in kept {
        if fd > next {
            gaps.push((next, fd - 1));
        }
        next = fd + 1;
    }
    gaps.push((next, u32::MAX));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_between_the_kept_ones_is_closed() {
        assert_eq!(
            gaps([9, 4, 5, 9, -1]),
            [(3, 3), (6, 8), (10, u32::MAX)],
            "in any order, with repetitions"
        );
        assert_eq!(gaps([]), [(3, u32::MAX)]);
    }
}

//! How much memory this process has in RAM.
//!
//! From the counters in `/proc/self/statm`, which cost nothing, instead of a walk over the guest's page tables
//! (`smaps_rollup`, `mincore`), which takes milliseconds per GiB and would stand between the guest and its disk. The
//! counters are per CPU and summed loosely: good to some hundred KiB.

use std::io;

use crate::layout::PAGE_BYTES;
use crate::proc::Proc;

/// Resident bytes, shared ones included; 0 when the kernel does not tell.
pub(crate) fn bytes(proc: &Proc) -> u64 {
    // Fields: size, resident, shared, …, all in pages (proc_pid_statm(5)).
    proc.open("statm")
        .and_then(io::read_to_string)
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    #[test]
    fn touched_memory_counts() {
        let proc = super::Proc::open_self().unwrap();
        let before = super::bytes(&proc);
        assert!(before > 0);
        let touched = std::hint::black_box(vec![1_u8; 32 << 20]);
        assert!(super::bytes(&proc) >= before + (24 << 20));
        drop(touched);
    }
}

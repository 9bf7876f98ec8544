//! File systems whose files the kernel makes up as they are read.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

/// Their numbers, from `linux/magic.h`: proc, sysfs, cgroup and cgroup2, debugfs, tracefs, securityfs, configfs, bpf,
/// pstore, efivarfs, devpts, mqueue.
const MAGIC: [u64; 13] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x6265_6570,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0x1cd1,
    0x1980_0202,
];

/// Whether a file's size says nothing about its content, and replacing it is out of the question.
#[must_use]
pub fn is_made_up(file: impl AsFd) -> bool {
    // The field's type differs between architectures.
    fstatfs(file).is_ok_and(|system| u64::try_from(system.f_type).is_ok_and(|magic| MAGIC.contains(&magic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_told_from_files_on_a_disk() {
        assert!(is_made_up(std::fs::File::open("/proc/self/stat").unwrap()));
        assert!(!is_made_up(std::fs::File::open("/bin/sh").unwrap()));
    }
}

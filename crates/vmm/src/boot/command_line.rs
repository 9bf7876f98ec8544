//! The kernel's command line: what this machine needs, then what the caller adds.

use std::ffi::CString;

use linux_loader::cmdline::Cmdline;

use super::BootError;
use crate::layout::COMMAND_LINE_BYTES_MAX;

/// In an order people can read. Later words win, so a caller can override any of them.
const MACHINE_ARGUMENTS: &[&str] = &[
    "console=ttyS0",
    // Every character on the serial port is an exit to this process: only what is worse than an error is printed. A panic
    // always is, with all that led to it.
    "loglevel=3",
    // A kernel that panicked resets at once, and is reported; nobody is there to read its screen.
    "panic=-1",
    // On hardware-reduced ACPI the kernel believes in EFI for this and ends in real mode; the register works.
    "reboot=acpi",
    // There is one port; the driver would probe three more.
    "8250.nr_uarts=1",
    // The TSC does not drift here, and there is no PIT or HPET to compare it with.
    "tsc=reliable",
    "no_timer_check",
    // There is no PCI; do not search it.
    "pci=off",
    // All of a guest belongs to one user, who is root in it: there is no boundary inside it to defend. The one around it
    // is the host's to defend, and does not depend on this.
    "mitigations=off",
    // For the same reason: what the kernel hands out is cleared, what it takes for itself need not be.
    "init_on_alloc=0",
    "randomize_kstack_offset=off",
    "apparmor=0",
    "audit=0",
    // Accounts nobody reads, brought up to date at each context switch or allocation.
    "psi=0",
    "noautogroup",
    "cgroup_disable=memory",
    // Otherwise a thread of the kernel copies what programs hold into huge pages, a few seconds after they began: hundreds
    // of pages that a clone shared until then. Programs that ask for huge pages (numpy does) get them.
    "transparent_hugepage=madvise",
    // No compaction twice a second, and no statistics each second.
    "sysctl.vm.compaction_proactiveness=0",
    "sysctl.vm.stat_interval=60",
    // The host notices a VM that hangs.
    "nowatchdog",
    // Seeds the pool at once where the CPU has RDRAND; the agent adds the host's entropy before anything matters.
    "random.trust_cpu=on",
    // Self-tests of algorithms this kernel was released with.
    "cryptomgr.notests",
];

pub(super) fn build(kernel_arguments: &str) -> Result<CString, BootError> {
    let mut line = Cmdline::new(COMMAND_LINE_BYTES_MAX).map_err(BootError::CommandLine)?;
    let words = MACHINE_ARGUMENTS.iter().copied();
    for word in words.chain(kernel_arguments.split_ascii_whitespace()) {
        line.insert_str(word).map_err(BootError::CommandLine)?;
    }
    line.as_cstring().map_err(BootError::CommandLine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_words_come_last() {
        let line = build(" loglevel=7  root=/dev/vda\n").unwrap();
        let line = line.to_str().unwrap();
        assert!(line.starts_with("console=ttyS0 "));
        assert!(line.ends_with(" loglevel=7 root=/dev/vda"));
    }

    #[test]
    fn a_line_that_does_not_fit_is_refused() {
        assert!(build(&"x".repeat(COMMAND_LINE_BYTES_MAX)).is_err());
        assert!(build("a\u{0}b").is_err());
    }
}

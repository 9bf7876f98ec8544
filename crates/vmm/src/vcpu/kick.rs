//! Getting a vCPU thread out of `KVM_RUN`.
//!
//! A signal alone is not enough: it may arrive just before the thread enters `KVM_RUN`, and then the guest runs on for
//! as long as it likes. So the kicker first raises `immediate_exit` in the vCPU's `kvm_run` page, which makes the next
//! `KVM_RUN` return at once, and then sends the signal, which ends the present one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::errno;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

/// `immediate_exit` of one vCPU, in memory shared with the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExitFlag(*const AtomicU8);

// SAFETY: the pointer is only used for atomic stores, which any thread may make. That it is valid is the duty of whoever
// keeps the flag (see `ExitFlag::of`).
unsafe impl Send for ExitFlag {}

impl ExitFlag {
    /// WARNING: the flag must not be raised once `vcpu` is dropped, which unmaps the page it is in.
    pub(crate) fn of(vcpu: &mut VcpuFd) -> Self {
        let byte: *mut u8 = &raw mut vcpu.get_kvm_run().immediate_exit;
        Self(byte.cast::<AtomicU8>())
    }

    pub(crate) fn raise(&self) {
        self.store(1);
    }

    /// For the vCPU's own thread, before it looks at its commands.
    pub(crate) fn lower(&self) {
        self.store(0);
    }

    fn store(&self, value: u8) {
        // SAFETY: the page is mapped as long as the vCPU lives, which the owner of this flag guarantees; an atomic byte
        // has no alignment to violate; the kernel only reads this byte.
        unsafe { &*self.0 }.store(value, Ordering::SeqCst);
    }
}

/// The signal that interrupts `KVM_RUN`.
pub(crate) fn kick_signal() -> c_int {
    SIGRTMIN()
}

/// Once per process; a signal without a handler would end it.
pub(crate) fn install_handler() -> Result<(), errno::Error> {
    static INSTALLED: OnceLock<Result<(), errno::Error>> = OnceLock::new();
    *INSTALLED.get_or_init(|| register_signal_handler(kick_signal(), do_nothing))
}

/// That a system call was interrupted is all the effect there is.
extern "C" fn do_nothing(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {}

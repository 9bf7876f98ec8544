//! fork(2) of a process with threads, and what has to be arranged for it.
//!
//! The child has the calling thread only. That is sound here because of what the other threads, the vCPUs', are doing
//! at that moment: each waits for a command, and holds no lock but those the C library itself brings through a fork
//! (its allocator's).

use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;

/// Which of the two processes this is after the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forked {
    Parent { child: u32 },
    Child,
}

/// Forks.
///
/// WARNING: only while every vCPU is parked. The child must not drop what belongs to a thread it does not have.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the child goes on with the memory of this one, as of now. Other threads hold no lock the child would ever
    // wait for (see above), and the main loop rebuilds what it shared with them.
    let pid = unsafe { libc::fork() };
    match u32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        Ok(child) => Ok(Forked::Parent { child }),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// A process group of its own, so that a signal to the parent's group does not reach the clone.
pub(crate) fn leave_process_group() {
    // SAFETY: the call has no effect on memory. It cannot fail for a process that has executed nothing since its birth.
    let _ = unsafe { libc::setpgid(0, 0) };
}

/// Settings of a process that will fork, before it has threads.
pub(crate) fn prepare() {
    // Lets the kernel reap children: nobody here waits for one.
    // SAFETY: ignoring a signal installs no code.
    let _ = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    // One heap for all threads: that of a thread the child does not have would be lost to it.
    // SAFETY: the call changes a setting of the allocator and nothing else.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Keeps the calling thread's signal stack out of children, in which nobody would unmap it. The standard library gives
/// one to each thread, with a page that cannot be accessed below.
pub(crate) fn keep_signal_stack_from_children() {
    const PAGE: usize = 4096;
    let mut stack = libc::stack_t {
        ss_sp: std::ptr::null_mut(),
        ss_flags: 0,
        ss_size: 0,
    };
    // SAFETY: the kernel writes the structure, and a null pointer changes nothing.
    let known = unsafe { libc::sigaltstack(std::ptr::null(), &raw mut stack) } == 0;
    if !known || stack.ss_flags & libc::SS_DISABLE != 0 {
        return;
    }
    let start = stack.ss_sp.wrapping_byte_sub(PAGE);
    let is_guard = !is_readable(start);
    let range = if is_guard {
        (start, stack.ss_size + PAGE)
    } else {
        (stack.ss_sp, stack.ss_size)
    };
    if let Some(start) = NonNull::new(range.0) {
        // SAFETY: the stack is this thread's, and no child has this thread. It is only a matter of tidiness: a failure
        // costs a child two mappings.
        let _ = unsafe { keep_from_children(start, range.1) };
    }
}

/// Asked of the kernel, so that memory that is not costs no signal: by a call that reads a signal mask there before it
/// refuses its first argument.
fn is_readable(address: *mut c_void) -> bool {
    const NO_SUCH_OPERATION: libc::c_long = 99;
    const MASK_BYTES: libc::c_long = 8;
    let nowhere = std::ptr::null_mut::<c_void>();
    // SAFETY: the call only reads, and the kernel checks the address.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            NO_SUCH_OPERATION,
            address,
            nowhere,
            MASK_BYTES,
        )
    };
    result == -1 && io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT)
}

/// Keeps a mapping out of children. Used for the pages KVM shares with its user: KVM ties them to one process.
///
/// # Safety
/// The range is one whole mapping of this process, and nothing in a child ever touches it.
pub(crate) unsafe fn keep_from_children(start: NonNull<c_void>, bytes: usize) -> io::Result<()> {
    // SAFETY: the range is a mapping, as the caller promises; this advice changes nothing in this process.
    let result = unsafe { libc::madvise(start.as_ptr(), bytes, libc::MADV_DONTFORK) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_memory_is_told_from_what_is_not() {
        let mut bytes = [0_u64; 2];
        assert!(is_readable(bytes.as_mut_ptr().cast()));
        assert!(!is_readable(std::ptr::null_mut()));
    }
}

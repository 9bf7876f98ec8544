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

/// Lets the kernel reap children: nobody here waits for one.
pub(crate) fn never_wait_for_children() {
    // SAFETY: ignoring a signal installs no code.
    let _ = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
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

//! The system calls a VM process needs once it is set up; all others fail with EPERM.
//!
//! They fail and do not kill: a C library that tries something new on some host must not cost a user their state.
//! Arguments are checked where a call would otherwise be a way out: no executable memory, no new namespaces, no socket
//! but a Unix one, no device control but KVM's, no signal but the harmless one.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use thiserror::Error;

use crate::vcpu::kick_signal;

/// Kinds of threads of a VM process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// Devices, the control socket, clones.
    Main,
    /// Runs the guest, and the devices' registers.
    Vcpu,
}

#[derive(Debug, Error)]
pub enum FilterError {
    #[error("the filter cannot be built")]
    Build(#[source] BackendError),
    #[error("the kernel refuses the filter")]
    Install(#[source] seccompiler::Error),
}

/// What every thread of the process does.
const ANY_THREAD: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_munmap,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Files and sockets that are open, event loop, clones.
const MAIN_THREAD: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_clock_nanosleep,
    // Refused with another error: see `without_clone3`.
    libc::SYS_clone3,
    libc::SYS_close_range,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_fallocate,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fork,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_mincore,
    libc::SYS_mremap,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_poll,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sched_getaffinity,
    libc::SYS_seccomp,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setpgid,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
];

/// Flags of clone(2) that make namespaces.
const NAMESPACE_FLAGS: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u64;

/// The type of KVM's ioctls (`KVMIO`) in bits 8 to 15 of the request.
const IOCTL_TYPE_MASK: u64 = 0xff00;
const IOCTL_TYPE_KVM: u64 = 0xae00;

/// Installs the filter of this kind of thread, in addition to what restricts the thread already.
pub(super) fn restrict(thread: Thread) -> Result<(), FilterError> {
    let filters = match thread {
        Thread::Main => vec![without_clone3(), program(thread)],
        Thread::Vcpu => vec![program(thread)],
    };
    for filter in filters {
        seccompiler::apply_filter(&filter.map_err(FilterError::Build)?).map_err(FilterError::Install)?;
    }
    Ok(())
}

/// The flags of clone3(2) lie in memory, where a filter cannot look. C libraries use clone(2) when it does not exist.
fn without_clone3() -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, unknown, TargetArch::x86_64)?.try_into()
}

fn program(thread: Thread) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ANY_THREAD.iter().map(|number| (*number, Vec::new())).collect();
    // No memory that can be written and then run.
    for (number, protection) in [(libc::SYS_mmap, 2), (libc::SYS_mprotect, 2)] {
        rules.insert(
            number,
            vec![lacks(protection, u64::from(libc::PROT_EXEC.unsigned_abs()))?],
        );
    }
    rules.insert(libc::SYS_ioctl, ioctls()?);
    rules.insert(
        libc::SYS_prctl,
        vec![is(0, u64::from(libc::PR_SET_NAME.unsigned_abs()))?],
    );
    if thread == Thread::Main {
        rules.extend(MAIN_THREAD.iter().map(|number| (*number, Vec::new())));
        rules.insert(
            libc::SYS_socket,
            vec![is(0, u64::from(libc::AF_UNIX.unsigned_abs()))?],
        );
        rules.insert(libc::SYS_clone, vec![lacks(0, NAMESPACE_FLAGS)?]);
        rules.insert(
            libc::SYS_tgkill,
            vec![is(2, u64::from(kick_signal().unsigned_abs()))?],
        );
        // For the shorter filters of vCPU threads.
        rules.insert(
            libc::SYS_prctl,
            [libc::PR_SET_NAME, libc::PR_SET_SECCOMP, libc::PR_SET_NO_NEW_PRIVS]
                .into_iter()
                .map(|option| is(0, u64::from(option.unsigned_abs())))
                .collect::<Result<_, _>>()?,
        );
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, denied, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

fn ioctls() -> Result<Vec<SeccompRule>, BackendError> {
    let kvm = SeccompCondition::new(
        1,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(IOCTL_TYPE_MASK),
        IOCTL_TYPE_KVM,
    )?;
    Ok(vec![
        SeccompRule::new(vec![kvm])?,
        is(1, libc::FIONBIO)?,
        is(1, libc::FIONREAD)?,
    ])
}

/// The argument has exactly this value.
fn is(argument: u8, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        value,
    )?])
}

/// The argument has none of these bits.
fn lacks(argument: u8, bits: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(bits),
        0,
    )?])
}

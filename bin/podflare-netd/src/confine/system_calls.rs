//! The system calls that serving takes; all others fail with EPERM.
//!
//! They fail and do not kill: a C library that tries something new on some host must not cost all sandboxes their
//! connections, and again after each restart. Arguments are checked where a call would otherwise be a way out: files are
//! only read, sockets are only TCP, UDP and what lists the host's own addresses, no memory can be written and then run,
//! and the one signal is that of an abort to itself. There is no call that makes a thread or a process, runs a program
//! or waits for connections from outside: all threads are there before the list is.

use std::collections::BTreeMap;

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum FilterError {
    #[error("the filter cannot be built")]
    Build(#[source] BackendError),
    #[error("the kernel refuses the filter")]
    Install(#[source] seccompiler::Error),
}

/// Allowed whatever the arguments are.
const ALLOWED: &[i64] = &[
    // The daemon comes, and comes again.
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    // To the outside. Unix sockets are only had in pairs, which are connected.
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    // Descriptors come with it, too: wires.
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    // How many arenas the allocator makes for several threads.
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    // Of files that are read again when they change.
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The kinds of sockets that are made: family, type. Those of netlink list the host's own addresses, which is done again as
/// they change; without rights all they can do is look.
const SOCKETS: [(i32, i32); 5] = [
    (libc::AF_INET, libc::SOCK_STREAM),
    (libc::AF_INET, libc::SOCK_DGRAM),
    (libc::AF_INET6, libc::SOCK_STREAM),
    (libc::AF_INET6, libc::SOCK_DGRAM),
    (libc::AF_NETLINK, libc::SOCK_RAW),
];

/// The type of a socket without flags.
const SOCKET_TYPE_MASK: u64 = 0xf;

/// Restricts all threads of this process.
pub(super) fn restrict() -> Result<(), FilterError> {
    let program = program().map_err(FilterError::Build)?;
    seccompiler::apply_filter_all_threads(&program).map_err(FilterError::Install)
}

fn program() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|number| (*number, Vec::new())).collect();
    // No memory that can be written and then run.
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        let no_execution = SeccompCondition::new(2, Qword, MaskedEq(bits(libc::PROT_EXEC)), 0)?;
        rules.insert(number, vec![SeccompRule::new(vec![no_execution])?]);
    }
    // To read, and nothing else: this is what the standard library asks for.
    rules.insert(libc::SYS_openat, vec![is(2, libc::O_RDONLY | libc::O_CLOEXEC)?]);
    rules.insert(libc::SYS_ioctl, vec![is_request(libc::FIONBIO)?]);
    rules.insert(libc::SYS_prctl, vec![is(0, libc::PR_SET_NAME)?]);
    rules.insert(libc::SYS_tgkill, vec![is(2, libc::SIGABRT)?]);
    rules.insert(libc::SYS_socketpair, vec![is(0, libc::AF_UNIX)?]);
    let netlink = SeccompCondition::new(2, Dword, Eq, bits(libc::NETLINK_ROUTE))?;
    let sockets = SOCKETS.into_iter().map(|(family, kind)| {
        let mut conditions = vec![
            SeccompCondition::new(0, Dword, Eq, bits(family))?,
            SeccompCondition::new(1, Dword, MaskedEq(SOCKET_TYPE_MASK), bits(kind))?,
        ];
        if family == libc::AF_NETLINK {
            conditions.push(netlink.clone());
        }
        SeccompRule::new(conditions)
    });
    rules.insert(libc::SYS_socket, sockets.collect::<Result<_, _>>()?);
    // How getifaddrs(3) names its socket. Anything else has been given an address by the kernel.
    rules.insert(
        libc::SYS_bind,
        vec![SeccompRule::new(vec![SeccompCondition::new(
            2,
            Dword,
            Eq,
            SOCKADDR_NL_BYTES,
        )?])?],
    );
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, denied, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

/// Bytes of an address of netlink; those of IPv4 have 16 and of IPv6 28.
const SOCKADDR_NL_BYTES: u64 = 12;

/// The argument has exactly this value.
fn is(argument: u8, value: i32) -> Result<SeccompRule, BackendError> {
    let condition = SeccompCondition::new(argument, Dword, Eq, bits(value))?;
    SeccompRule::new(vec![condition])
}

fn is_request(request: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(1, Dword, Eq, request)?])
}

fn bits(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

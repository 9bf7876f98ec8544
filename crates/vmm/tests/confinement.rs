//! What a VM process that a guest has taken over could try: each is tried for real, in a confined process.

#![expect(clippy::unwrap_used, reason = "helpers of tests outside of a test function")]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use vmm::confine::{self, Thread, UserId};

/// Far from the ids that distributions give out.
const USER: UserId = UserId(1_900_000_001);

/// Runs `act` in a confined child process; returns what it wrote down, or how confining failed.
fn confined(act: impl FnOnce(&mut File)) -> String {
    confined_as(None, act)
}

fn confined_as(thread: Option<Thread>, act: impl FnOnce(&mut File)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut ends = [0; 2];
    // SAFETY: an array of two, as pipe(2) wants it.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the pipe's own descriptors, given away once each.
    let (mut reading, mut writing) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    // SAFETY: the child uses what the C library makes safe after a fork (allocation), and ends without unwinding.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(reading);
        let entered = confine::enter(dir.path(), USER);
        let entered = entered.and_then(|()| thread.map_or(Ok(()), confine::restrict));
        match entered {
            Ok(()) => act(&mut writing),
            Err(error) => drop(write!(writing, "not confined: {}", pod_types::ErrorChain(&error))),
        }
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    drop(writing);
    let mut said = String::new();
    reading.read_to_string(&mut said).unwrap();
    // SAFETY: the child of this process, waited for once.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    said
}

fn tell<T>(to: &mut File, result: io::Result<T>) {
    let said = match result {
        Ok(_) => "done".to_owned(),
        Err(error) => error
            .raw_os_error()
            .map_or("failed".to_owned(), |code| format!("errno {code}")),
    };
    to.write_all(said.as_bytes()).unwrap();
}

fn call(number: i64, [first, second]: [i64; 2]) -> io::Result<()> {
    // SAFETY: the calls tried here take numbers, or pointers that are null, which the kernel refuses.
    last(unsafe { libc::syscall(number, first, second, 0, 0, 0, 0) })
}

fn last(result: i64) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

const DENIED: &str = "errno 1";

#[test]
fn no_file_of_the_host_can_be_opened() {
    for path in [
        "/etc/passwd",
        "/proc/self/maps",
        "../../../etc/passwd",
        "/dev/kvm",
    ] {
        assert_eq!(confined(|to| tell(to, File::open(path))), DENIED, "{path}");
    }
}

#[test]
fn no_file_can_be_made() {
    assert_eq!(confined(|to| tell(to, File::create("/new"))), DENIED);
}

#[test]
fn no_program_can_be_run() {
    let said = confined(|to| {
        let program = CString::new("/bin/true").unwrap();
        let arguments = [program.as_ptr(), std::ptr::null()];
        // SAFETY: a string and a list ended by null, both alive.
        tell(
            to,
            last(unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) }.into()),
        );
    });
    assert_eq!(said, DENIED);
}

#[test]
fn no_connection_leaves_the_host() {
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let said = confined(|to| tell(to, TcpStream::connect_timeout(&address, Duration::from_secs(1))));
    assert_eq!(said, DENIED);
}

#[test]
fn no_socket_of_the_host_can_be_reached() {
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let said = confined(|to| tell(to, UnixStream::connect(&path)));
    assert_eq!(said, format!("errno {}", libc::ENOENT));
}

#[test]
fn no_other_process_can_be_looked_into_or_signalled() {
    let other = i64::from(std::process::id());
    let calls = [
        (libc::SYS_ptrace, [i64::from(libc::PTRACE_ATTACH), other]),
        (libc::SYS_kill, [other, libc::SIGUSR1.into()]),
        (libc::SYS_process_vm_readv, [other, 0]),
        (libc::SYS_pidfd_open, [other, 0]),
    ];
    for (number, arguments) in calls {
        assert_eq!(
            confined(|to| tell(to, call(number, arguments))),
            DENIED,
            "call {number}"
        );
    }
}

#[test]
fn no_rights_can_be_won_back() {
    let calls = [
        (libc::SYS_setresuid, [0, 0]),
        (libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0]),
        (libc::SYS_clone, [libc::CLONE_NEWUSER.into(), 0]),
        (libc::SYS_clone3, [0, 0]),
        (libc::SYS_bpf, [0, 0]),
    ];
    for (number, arguments) in calls {
        assert_ne!(
            confined(|to| tell(to, call(number, arguments))),
            "done",
            "call {number}"
        );
    }
}

#[test]
fn no_memory_can_be_made_executable() {
    let said = confined(|to| {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping that nothing uses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        tell(
            to,
            if address == libc::MAP_FAILED {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            },
        );
    });
    assert_eq!(said, DENIED);
}

#[test]
fn threads_clones_and_open_files_still_work() {
    let said = confined(|to| {
        let sum = std::thread::spawn(|| 40 + 2).join().unwrap();
        // SAFETY: the child ends at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            to.write_all(format!("{sum}").as_bytes()).unwrap();
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        assert!(pid > 0);
    });
    assert_eq!(said, "42");
}

#[test]
fn a_vcpu_thread_can_do_less() {
    let socket = |to: &mut File| {
        // SAFETY: takes numbers only.
        tell(
            to,
            last(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) }.into()),
        );
    };
    assert_eq!(confined(socket), "done");
    assert_eq!(confined_as(Some(Thread::Vcpu), socket), DENIED);
}

#[test]
fn its_directory_is_all_it_sees() {
    let said = confined(|to| {
        // SAFETY: a string that lives.
        let found = unsafe { libc::access(c"/etc".as_ptr(), libc::F_OK) };
        tell(to, last(found.into()));
    });
    assert_ne!(said, "done");
    assert!(Path::new("/etc").exists());
}

#[test]
fn frames_still_move_on_a_wire() {
    let mut ends = [0; 2];
    // SAFETY: an array of two, as socketpair(2) wants it.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, ends.as_mut_ptr()) };
    assert_eq!(made, 0);
    // SAFETY: the pair's own descriptors, given away once each.
    let [wire, end] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let said = confined(|to| {
        let tried = || {
            vmm::virtio::net::check(&wire).map_err(io::Error::other)?;
            let mut frame = [7_u8; 60];
            let scatter = vmm::virtio::Scatter::from(&mut frame[..]);
            scatter.send(wire.as_fd())?;
            scatter.receive(end.as_fd())?;
            scatter.send(end.as_fd())?;
            let mut received = [0; 60];
            let bytes = received.as_mut_ptr().cast();
            // SAFETY: a buffer of that length, alive.
            let got =
                unsafe { libc::recv(wire.as_raw_fd(), bytes, 60, libc::MSG_DONTWAIT | libc::MSG_TRUNC) };
            last(got as i64)
        };
        tell(to, tried());
    });
    assert_eq!(said, "done");
}

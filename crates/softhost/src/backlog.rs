//! Room for bursts of connections to the software host's forwarded port.
//!
//! QEMU's user network listens with a queue of one (libslirp, `tcpx_listen`). Of twenty clients that connect at once
//! some are past the queue when they believe to be connected, and a second later the kernel resets them: 36 of 160
//! creations failed so. Calling `listen` again on the same socket changes the length of its queue, and the supervisor,
//! whose child QEMU is, may take a copy of QEMU's descriptor (`pidfd_getfd(2)`, Linux 5.6).

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{getsockname, listen, sockopt};
use rustix::process::{ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// Connections that wait to be accepted; the kernel's own limit may be lower.
const BACKLOG: i32 = 4096;

/// Widens the queue of the socket on which a process listens at this port.
///
/// # Errors
/// The process may not be looked into, or does not listen there.
pub(crate) fn widen(pid: i32, port: u16) -> io::Result<()> {
    let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(number, PidfdFlags::empty())?;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        let name = entry.file_name();
        let Some(descriptor) = name.to_str().and_then(|name| name.parse::<ForeignRawFd>().ok()) else {
            continue;
        };
        if !is_socket {
            continue;
        }
        // One that was closed meanwhile is not the one.
        let Ok(socket) = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()) else {
            continue;
        };
        if listens_at(&socket, port) {
            return Ok(listen(&socket, BACKLOG)?);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("process {pid} does not listen at port {port}"),
    ))
}

fn listens_at(socket: &OwnedFd, port: u16) -> bool {
    let at = getsockname(socket)
        .ok()
        .and_then(|address| SocketAddr::try_from(address).ok());
    at.is_some_and(|at| at.port() == port) && sockopt::socket_acceptconn(socket.as_fd()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn a_queue_of_one_takes_many_once_it_is_widened() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listen(&listener, 1).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(5));
        let me = std::process::id().cast_signed();
        widen(me, address.port()).unwrap();
        let waiting: Vec<_> = (0..40).map(|_| connect().unwrap()).collect();
        assert_eq!(waiting.len(), 40);
        drop(listener);
        let gone = widen(me, address.port()).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}

//! Ordinary sockets to the outside.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

type Result<T> = std::result::Result<T, Errno>;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// After so long without a word the kernel asks whether the other side still lives.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(2);

/// Begins a connection; that it is there shows in the socket becoming writable.
pub(crate) fn tcp(to: SocketAddr) -> Result<OwnedFd> {
    let socket = net::socket_with(family(to), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_AFTER)?;
    match net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// A socket that takes datagrams from this address only.
pub(crate) fn udp(to: SocketAddr) -> Result<OwnedFd> {
    let socket = net::socket_with(family(to), SocketType::DGRAM, FLAGS, None)?;
    net::connect(&socket, &to)?;
    Ok(socket)
}

/// Whether a connection that was begun is there. None while it is not decided.
pub(crate) fn is_connected(socket: &OwnedFd) -> Option<Result<()>> {
    match sockopt::socket_error(socket) {
        Ok(Err(error)) | Err(error) => return Some(Err(error)),
        Ok(Ok(())) => {}
    }
    match net::getpeername(socket) {
        Ok(_) => Some(Ok(())),
        Err(Errno::NOTCONN) => None,
        Err(error) => Some(Err(error)),
    }
}

/// Makes the other side see a reset when the socket is closed.
pub(crate) fn reset_at_close(socket: &OwnedFd) {
    // One that is gone already has nobody to see it.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

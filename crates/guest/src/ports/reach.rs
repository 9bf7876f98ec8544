//! A connection to whatever program listens on a port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use thiserror::Error;

use super::table;
use crate::connection::{Connection, ConnectionError, Stream};
use crate::poll;

/// A program on this machine takes a connection at once, unless more of them wait already than it wants.
const WAIT: Duration = Duration::from_secs(10);
/// Addresses beside the loopback that are tried.
const OTHERS_MAX: usize = 8;

/// What is tried first: programs on 0.0.0.0 and :: are there, too.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

#[derive(Debug, Error)]
pub(super) enum Unreached {
    #[error("nothing listens on port {port}")]
    Nothing { port: u16 },
    #[error("what listens on port {port} has taken no connection for {} s", WAIT.as_secs())]
    NotTaken { port: u16 },
    #[error("the connection that asked is over")]
    Connection(#[source] ConnectionError),
    #[error("cannot connect")]
    Io(#[source] io::Error),
}

/// What one address says.
enum Tried {
    Taken(TcpStream),
    /// Nothing is there.
    Refused,
    /// Not before the deadline.
    Late,
}

/// Connects to 127.0.0.1, or ::1, or another address of this machine where something listens on that port. Stops when
/// the host does not want it any more.
pub(super) fn reach<S: Stream>(port: u16, asker: &mut Connection<S>) -> Result<TcpStream, Unreached> {
    let deadline = Instant::now() + WAIT;
    let mut is_late = false;
    for address in LOOPBACK.into_iter().chain(others(port)) {
        match attempt(SocketAddr::new(address, port), deadline, asker)? {
            Tried::Taken(stream) => return Ok(stream),
            Tried::Refused => {}
            Tried::Late => is_late = true,
        }
    }
    Err(if is_late {
        Unreached::NotTaken { port }
    } else {
        Unreached::Nothing { port }
    })
}

/// Where else something listens. Only looked up when the loopback has refused.
fn others(port: u16) -> impl Iterator<Item = IpAddr> {
    std::iter::once_with(move || {
        let listening = table::listening().into_iter();
        listening
            .filter(|socket| socket.address.port() == port)
            .map(|socket| socket.address.ip())
            .filter(|address| !LOOPBACK.contains(address))
            .filter(|address| !address.is_unspecified() && !needs_scope(address))
            .take(OTHERS_MAX)
            .collect::<Vec<_>>()
    })
    .flatten()
}

/// Link-local addresses mean nothing without the interface they are on.
fn needs_scope(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn attempt<S: Stream>(
    address: SocketAddr,
    deadline: Instant,
    asker: &mut Connection<S>,
) -> Result<Tried, Unreached> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match socket_with(family, SocketType::STREAM, flags, None) {
        Ok(socket) => socket,
        // A kernel without IPv6.
        Err(Errno::AFNOSUPPORT) => return Ok(Tried::Refused),
        Err(error) => return Err(Unreached::Io(error.into())),
    };
    match connect(&socket, &address) {
        Ok(()) => return Ok(taken(socket)),
        Err(Errno::INPROGRESS) => {}
        Err(_refused) => return Ok(Tried::Refused),
    }
    loop {
        let asked = [PollFlags::OUT, PollFlags::IN | PollFlags::RDHUP];
        let mut fds = [PollFd::new(&socket, asked[0]), PollFd::new(&*asker, asked[1])];
        poll::wait(&mut fds, Some(deadline)).map_err(Unreached::Io)?;
        let (answered, host_spoke) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if answered {
            let outcome = sockopt::socket_error(&socket).map_err(|error| Unreached::Io(error.into()))?;
            return Ok(match outcome {
                Ok(()) => taken(socket),
                Err(_refused) => Tried::Refused,
            });
        }
        if host_spoke {
            asker.attend().map_err(Unreached::Connection)?;
        }
        if Instant::now() >= deadline {
            return Ok(Tried::Late);
        }
    }
}

fn taken(socket: OwnedFd) -> Tried {
    let stream = TcpStream::from(socket);
    // Where nothing listens, and the kernel has chosen that very port for this end, a socket connects to itself.
    let ends = (stream.local_addr(), stream.peer_addr());
    if matches!(ends, (Ok(here), Ok(there)) if here == there) {
        return Tried::Refused;
    }
    // What comes is passed on at once; both ends have their own view of what belongs together.
    let _ = stream.set_nodelay(true);
    Tried::Taken(stream)
}

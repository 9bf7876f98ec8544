//! The host's end of the network device: one socket, one message a frame.
//!
//! What is at the other end is another process, which may be slow, gone or new. A wire that is full is waited for; one
//! that is gone takes every frame and brings none.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use event_manager::EventSet;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketType, recv, sockopt};
use thiserror::Error;

use crate::virtio::device::{DeviceError, Host};
use crate::virtio::scatter::Scatter;

const TOKEN: u32 = 0;

/// What tells that the socket has something to say, or will never again.
pub(super) const READABLE: EventSet = EventSet::IN.union(ENDED);
pub(super) const WRITABLE: EventSet = EventSet::OUT.union(ENDED);
const ENDED: EventSet = EventSet::ERROR.union(EventSet::HANG_UP);

#[derive(Debug, Error)]
pub enum WireError {
    #[error("the descriptor is not a socket")]
    NotASocket(#[source] io::Error),
    #[error("the descriptor is not a Unix socket of messages in sequence")]
    OtherSocket,
}

/// The socket, if there is one, and what the event loop has been asked to tell of it.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Option<OwnedFd>,
    watched: EventSet,
    is_full: bool,
}

/// What became of a frame for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    /// Nobody takes it, now or later.
    Dropped,
    /// There is no room for it now.
    Full,
}

/// What the host had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A frame of this many bytes, in the buffer.
    Frame(usize),
    /// A frame longer than the buffer, of which nothing is left.
    TooLong,
    Nothing,
    /// Nothing, for ever.
    End,
}

impl Wire {
    pub(super) fn new(socket: Option<OwnedFd>) -> Self {
        Self {
            socket,
            watched: EventSet::empty(),
            is_full: false,
        }
    }

    pub(super) fn send(&mut self, frame: &Scatter<'_>) -> Sent {
        let Some(socket) = &self.socket else {
            return Sent::Dropped;
        };
        match frame.send(socket.as_fd()) {
            Ok(_) => Sent::Whole,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_full = true;
                Sent::Full
            }
            // Also a frame the socket has no buffer for, and a wire that is gone: reading finds that out.
            Err(_) => Sent::Dropped,
        }
    }

    /// `buffer` is one byte longer than the longest frame that is taken.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Received {
        let Some(socket) = &self.socket else {
            return Received::Nothing;
        };
        let len = buffer.len();
        loop {
            return match recv(socket, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                // An empty message looks the same, and nobody has a reason to send one.
                Ok((_, 0)) => Received::End,
                Ok((_, whole)) if whole >= len => Received::TooLong,
                Ok((_, whole)) => Received::Frame(whole),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Received::Nothing,
                Err(_) => Received::End,
            };
        }
    }

    /// Whether the last frame did not go, and nothing has been heard since.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn has_room(&mut self) {
        self.is_full = false;
    }

    /// Asks the event loop for exactly these events; those of the end of the wire come with any.
    pub(super) fn watch(&mut self, set: EventSet, host: &mut Host<'_, '_>) -> Result<(), DeviceError> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        if set == self.watched {
            return Ok(());
        }
        match (self.watched.is_empty(), set.is_empty()) {
            (true, _) => host.watch(socket, TOKEN, set)?,
            (false, true) => host.unwatch(socket),
            (false, false) => host.rewatch(socket, TOKEN, set)?,
        }
        self.watched = set;
        Ok(())
    }

    /// Hangs up.
    pub(super) fn cut(&mut self, host: &mut Host<'_, '_>) {
        if let Some(socket) = &self.socket
            && !self.watched.is_empty()
        {
            host.unwatch(socket);
        }
        *self = Self::new(None);
    }

    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.socket.as_ref().map(|socket| socket.as_raw_fd())
    }
}

/// Whether a descriptor can be a wire.
///
/// # Errors
/// It cannot; what it is.
pub fn check(socket: &OwnedFd) -> Result<(), WireError> {
    let not_a_socket = |error: Errno| WireError::NotASocket(error.into());
    let domain = sockopt::socket_domain(socket).map_err(not_a_socket)?;
    let kind = sockopt::socket_type(socket).map_err(not_a_socket)?;
    if (domain, kind) == (AddressFamily::UNIX, SocketType::SEQPACKET) {
        Ok(())
    } else {
        Err(WireError::OtherSocket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_of_messages_is_a_wire() {
        let (wire, _other) = super::super::pair().unwrap();
        check(&wire).unwrap();
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(check(&stream.into()), Err(WireError::OtherSocket)));
        let (datagrams, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert!(matches!(check(&datagrams.into()), Err(WireError::OtherSocket)));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(check(&file.into()), Err(WireError::NotASocket(_))));
    }
}

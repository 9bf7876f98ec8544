//! Our end of a wire: frames in, frames out, and what waits while the guest takes none.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use net_proto::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, GATEWAY_MAC, GUEST_MAC};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Frames that wait for a guest that takes none: what answers it directly, since data of connections is only made
/// when there is room for it. More are dropped; their protocols try again.
const WAITING_MAX: usize = 64;

/// Longest frame of those. Longer ones are data or an echo, and are dropped.
const WAITING_BYTES_MAX: usize = 2048;

pub(crate) struct Link {
    fd: OwnedFd,
    /// Filled in before it is sent. Empty until the first frame: most wires of a host are idle.
    frame: Vec<u8>,
    waiting: VecDeque<Box<[u8]>>,
    /// The frame that met the full socket, whatever its length.
    blocked: Option<Box<[u8]>>,
    pub(crate) frames_up: u64,
    pub(crate) frames_down: u64,
    pub(crate) dropped: u64,
}

/// What a read brought.
pub(crate) enum Received {
    /// So many bytes. Longer frames than there may be are reported with their true length.
    Frame(usize),
    Nothing,
    /// The other end is gone.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
    Arp,
}

impl Link {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            frame: Vec::new(),
            waiting: VecDeque::new(),
            blocked: None,
            frames_up: 0,
            frames_down: 0,
            dropped: 0,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads one frame. A message of no bytes is no frame, and what an end of file looks like.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, 0)) => Received::Closed,
            Ok((_, count)) => {
                self.frames_up += 1;
                Received::Frame(count)
            }
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }

    /// Whether a frame with data of a connection may be made now.
    pub(crate) fn has_room(&self) -> bool {
        self.blocked.is_none()
    }

    /// Sends a frame with a packet of `len` bytes that `fill` writes.
    pub(crate) fn send(&mut self, family: Family, len: usize, fill: impl FnOnce(&mut [u8])) {
        self.send_either(len, |packet| {
            fill(packet);
            (family, ())
        });
    }

    /// The same when only the packet tells of what family it is.
    pub(crate) fn send_either<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> (Family, R)) -> R {
        // Every maker of packets knows the bound; one that does not meets a frame nobody gets.
        let room = FRAME_BYTES_MAX.max(FRAME_HEADER_BYTES + len);
        if self.frame.len() < room {
            self.frame.resize(room, 0);
        }
        let (header, rest) = self.frame.split_at_mut(FRAME_HEADER_BYTES);
        let (family, result) = fill(&mut rest[..len]);
        let kind: [u8; 2] = match family {
            Family::V4 => [0x08, 0x00],
            Family::V6 => [0x86, 0xdd],
            Family::Arp => [0x08, 0x06],
        };
        header[..6].copy_from_slice(&GUEST_MAC);
        header[6..12].copy_from_slice(&GATEWAY_MAC);
        header[12..].copy_from_slice(&kind);
        self.push(FRAME_HEADER_BYTES + len);
        result
    }

    fn push(&mut self, len: usize) {
        if self.blocked.is_some() {
            if self.waiting.len() < WAITING_MAX && len <= WAITING_BYTES_MAX {
                self.waiting.push_back(self.frame[..len].into());
            } else {
                self.dropped += 1;
            }
            return;
        }
        match transmit(&self.fd, &self.frame[..len]) {
            Sent::Done => self.frames_down += 1,
            Sent::Full => self.blocked = Some(self.frame[..len].into()),
            Sent::Lost => self.dropped += 1,
        }
    }

    /// Sends what waited, now that the socket has room. Says whether all of it has gone.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(frame) = self.blocked.take() {
            match transmit(&self.fd, &frame) {
                Sent::Done => self.frames_down += 1,
                Sent::Lost => self.dropped += 1,
                Sent::Full => {
                    self.blocked = Some(frame);
                    return false;
                }
            }
            self.blocked = self.waiting.pop_front();
        }
        true
    }
}

enum Sent {
    Done,
    Full,
    /// The other end is gone, which a read will tell, or the frame is not one.
    Lost,
}

fn transmit(fd: &OwnedFd, frame: &[u8]) -> Sent {
    match send(fd, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(_) => Sent::Done,
        Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => Sent::Full,
        Err(_) => Sent::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn what_meets_a_full_socket_waits_and_then_goes_in_order() {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut link = Link::new(ours);
        let mut sent = 0_u8;
        while link.has_room() {
            link.send(Family::V4, 15_000, |packet| packet.fill(sent));
            sent += 1;
        }
        for _ in 0..2 {
            link.send(Family::V4, 100, |packet| packet.fill(sent));
            sent += 1;
        }
        link.send(Family::V4, 15_000, |_| ());
        assert_eq!((link.dropped, link.flush()), (1, false));
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        for expected in 0..sent {
            let (_, count) = recv(&theirs, &mut buffer[..], RecvFlags::empty()).unwrap();
            assert_eq!(buffer[count - 1], expected);
            link.flush();
        }
        assert!(link.has_room() && link.frames_down == u64::from(sent));
    }

    #[test]
    fn the_end_of_the_other_side_is_seen() {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut link = Link::new(ours);
        assert!(matches!(link.receive(&mut [0; 64]), Received::Nothing));
        send(&theirs, &[1; 100], SendFlags::empty()).unwrap();
        assert!(matches!(link.receive(&mut [0; 64]), Received::Frame(100)));
        drop(theirs);
        assert!(matches!(link.receive(&mut [0; 64]), Received::Closed));
    }
}

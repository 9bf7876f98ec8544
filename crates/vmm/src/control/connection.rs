//! One connected daemon: bytes in, requests out, and the other way round.
//!
//! Descriptors come along with the bytes of the request they belong to, in order. A request takes as many as its
//! command needs; what no request has asked for when all bytes are read is closed.

use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use thiserror::Error;
use vmm_proto::{CLONES_MAX, CodecError, Command, DESCRIPTORS_PER_CLONE, FromVmm, Request};

/// Bytes taken from the socket per wake-up, so that one daemon cannot keep the loop.
const READ_BYTES: usize = 64 * 1024;
/// Descriptors one message of ancillary data can carry (`SCM_MAX_FD` of Linux).
const DESCRIPTORS_PER_MESSAGE: usize = 253;
/// Descriptors that may be here for requests that have not arrived whole: those of the largest one, and of a next one.
const DESCRIPTORS_MAX: usize = 2 * (1 + DESCRIPTORS_PER_CLONE * CLONES_MAX as usize);
/// Bytes that may wait for the daemon to read them: several of the largest messages.
const OUTBOX_BYTES_MAX: usize = 4 * vmm_proto::MESSAGE_MAX;

/// Why a connection is over.
#[derive(Debug, Error)]
pub(super) enum Closed {
    #[error("the other side left")]
    ByPeer,
    #[error("the socket failed")]
    Socket(#[source] io::Error),
    #[error("a message does not follow the protocol")]
    Malformed(#[source] CodecError),
    #[error("replies are not read")]
    NotReading,
    #[error("more descriptors came than any request needs")]
    TooManyDescriptors,
}

/// A request with the descriptors it needs, or fewer if fewer came.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) request: Request,
    pub(super) files: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    inbox: Vec<u8>,
    files: Vec<OwnedFd>,
    outbox: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            inbox: Vec::new(),
            files: Vec::new(),
            outbox: Vec::new(),
        })
    }

    /// Reads what has arrived, up to a bound, and returns the whole requests in it.
    pub(super) fn receive(&mut self) -> Result<Vec<Delivery>, Closed> {
        let mut chunk = vec![0; READ_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.stream,
            &mut [IoSliceMut::new(&mut chunk)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        );
        match received.map_err(io::Error::from) {
            Ok(message) if message.bytes == 0 => return Err(Closed::ByPeer),
            Ok(message) => self
                .inbox
                .extend_from_slice(chunk.get(..message.bytes).unwrap_or_default()),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(Closed::Socket(error)),
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        if self.files.len() > DESCRIPTORS_MAX {
            return Err(Closed::TooManyDescriptors);
        }
        self.whole_requests()
    }

    fn whole_requests(&mut self) -> Result<Vec<Delivery>, Closed> {
        let mut requests = Vec::new();
        while let Some((request, used)) =
            vmm_proto::decode::<Request>(&self.inbox).map_err(Closed::Malformed)?
        {
            self.inbox.drain(..used);
            let wanted = match &request.command {
                Command::Clone(clone) => clone.descriptors(),
                Command::Freeze(freeze) => freeze.descriptors(),
                Command::Wire => 1,
                _ => 0,
            };
            let files = self.files.drain(..wanted.min(self.files.len())).collect();
            requests.push(Delivery { request, files });
        }
        if self.inbox.is_empty() {
            self.files.clear();
        }
        Ok(requests)
    }

    /// Sends, or keeps for later what the socket does not take now.
    pub(super) fn send(&mut self, message: &FromVmm) -> Result<(), Closed> {
        let bytes = vmm_proto::encode(message).map_err(Closed::Malformed)?;
        if self.outbox.len() + bytes.len() > OUTBOX_BYTES_MAX {
            return Err(Closed::NotReading);
        }
        self.outbox.extend_from_slice(&bytes);
        self.flush()
    }

    /// Sends what was kept, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Result<(), Closed> {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(0) => return Err(Closed::ByPeer),
                Ok(len) => drop(self.outbox.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_transient(&error) => break,
                Err(error) => return Err(Closed::Socket(error)),
            }
        }
        Ok(())
    }

    /// Something still waits for the daemon to read.
    pub(super) fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends what is left, waiting at most this long for each write.
    pub(super) fn finish(mut self, patience: Duration) {
        let sent = self
            .stream
            .set_nonblocking(false)
            .and_then(|()| self.stream.set_write_timeout(Some(patience)))
            .and_then(|()| self.stream.write_all(&self.outbox));
        // The process ends now; whoever did not read, has lost.
        drop(sent);
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;
    use std::os::fd::AsFd as _;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use vmm_proto::{CloneConfig, Outcome, Reply, VERSION};

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::new(ours).unwrap(), theirs)
    }

    fn request(id: u64) -> Request {
        Request {
            version: VERSION,
            id,
            command: Command::Stats,
        }
    }

    #[test]
    fn requests_arrive_whole_however_they_are_cut() {
        let (mut connection, mut daemon) = pair();
        let bytes: Vec<u8> = (0..3)
            .flat_map(|id| vmm_proto::encode(&request(id)).unwrap())
            .collect();
        let mut received = Vec::new();
        for piece in bytes.chunks(7) {
            daemon.write_all(piece).unwrap();
            received.extend(connection.receive().unwrap());
        }
        let received: Vec<_> = received.into_iter().map(|delivery| delivery.request).collect();
        assert_eq!(received, [request(0), request(1), request(2)]);
        drop(daemon);
        assert!(matches!(connection.receive(), Err(Closed::ByPeer)));
    }

    fn clone(id: u64) -> Vec<u8> {
        let command = Command::Clone(CloneConfig {
            count: 1,
            run: true,
            console_log_bytes_max: 0,
        });
        vmm_proto::encode(&Request {
            command,
            ..request(id)
        })
        .unwrap()
    }

    /// Sends bytes with this many descriptors of pipes, whose other ends tell when they are closed.
    fn send(daemon: &UnixStream, bytes: &[u8], files: usize) -> Vec<io::PipeReader> {
        let (readers, writers): (Vec<_>, Vec<_>) = (0..files).map(|_| io::pipe().unwrap()).unzip();
        let borrowed: Vec<_> = writers.iter().map(|file| file.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
        rustix::net::sendmsg(daemon, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty()).unwrap();
        readers
    }

    fn all_closed(readers: Vec<io::PipeReader>) -> bool {
        readers
            .into_iter()
            .all(|mut reader| io::Read::read(&mut reader, &mut [0]).unwrap() == 0)
    }

    #[test]
    fn descriptors_go_to_the_request_they_came_with() {
        let (mut connection, daemon) = pair();
        let mut received = Vec::new();
        // A request without any before it, and one whose bytes come in two parts.
        send(&daemon, &vmm_proto::encode(&request(0)).unwrap(), 0);
        let bytes = clone(1);
        let readers = send(&daemon, &bytes[..9], 6);
        send(&daemon, &bytes[9..], 0);
        while received.len() < 2 {
            received.extend(connection.receive().unwrap());
        }
        assert_eq!(received[0].files.len(), 0);
        assert_eq!(received[1].files.len(), 6);
        drop(received);
        assert!(all_closed(readers));
    }

    #[test]
    fn descriptors_nobody_asked_for_are_closed() {
        let (mut connection, daemon) = pair();
        let unwanted = send(&daemon, &vmm_proto::encode(&request(0)).unwrap(), 3);
        assert_eq!(connection.receive().unwrap()[0].files.len(), 0);
        assert!(all_closed(unwanted));
        let too_many = send(&daemon, &clone(1), 8);
        let received = connection.receive().unwrap();
        assert_eq!(received[0].files.len(), 6);
        drop(received);
        assert!(all_closed(too_many));
    }

    #[test]
    fn a_daemon_that_sends_descriptors_without_end_is_dropped() {
        let (mut connection, daemon) = pair();
        // The beginning of a message that never comes whole.
        send(&daemon, &[200], 250);
        connection.receive().unwrap();
        send(&daemon, &[0], 250);
        assert!(matches!(connection.receive(), Err(Closed::TooManyDescriptors)));
    }

    #[test]
    fn a_malformed_message_ends_the_connection() {
        let (mut connection, mut daemon) = pair();
        daemon.write_all(&[4, 0, 0, 0, b'n', b'o', b'p', b'e']).unwrap();
        assert!(matches!(connection.receive(), Err(Closed::Malformed(_))));
    }

    #[test]
    fn a_daemon_that_does_not_read_is_dropped_in_the_end() {
        let (mut connection, _daemon) = pair();
        let text = "x".repeat(100_000);
        let reply = FromVmm::Reply(Reply {
            id: 1,
            outcome: Outcome::Failed(text),
        });
        let failure = (0..1000).find_map(|_| connection.send(&reply).err());
        assert!(matches!(failure, Some(Closed::NotReading)), "{failure:?}");
        assert!(connection.outbox.len() <= OUTBOX_BYTES_MAX);
    }
}

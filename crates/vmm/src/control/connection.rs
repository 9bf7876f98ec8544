//! One connected daemon: bytes in, requests out, and the other way round.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use thiserror::Error;
use vmm_proto::{CodecError, FromVmm, Request};

/// Bytes taken from the socket per wake-up, so that one daemon cannot keep the loop.
const READ_BYTES: usize = 64 * 1024;
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
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
        })
    }

    /// Reads what has arrived, up to a bound, and returns the whole requests in it.
    pub(super) fn receive(&mut self) -> Result<Vec<Request>, Closed> {
        let mut chunk = vec![0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(Closed::ByPeer),
            Ok(len) => self.inbox.extend_from_slice(chunk.get(..len).unwrap_or_default()),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(Closed::Socket(error)),
        }
        let mut requests = Vec::new();
        while let Some((request, used)) = vmm_proto::decode(&self.inbox).map_err(Closed::Malformed)? {
            self.inbox.drain(..used);
            requests.push(request);
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
    use vmm_proto::{Command, Outcome, Reply, VERSION};

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
        assert_eq!(received, [request(0), request(1), request(2)]);
        drop(daemon);
        assert!(matches!(connection.receive(), Err(Closed::ByPeer)));
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

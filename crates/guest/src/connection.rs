//! One connection: requests in, frames out, never blocking without watching for the other side's going away.
//!
//! A connection ends in one of three ways. The host cancels what is in progress and closes it. Or it ends without that:
//! the host is gone, and another will come. Or the machine is cloned, and in the clone the transport resets it: the host at
//! its other end is the business of the machine this one was cloned from. In the last two a run in progress goes on, and
//! its output is [kept](crate::carried); anything else is of no use any more.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_proto::{Carried as Beginning, Direction, HEADER_LEN, Header, MessageError, Reply, Request};
use rustix::event::{PollFd, PollFlags};
use thiserror::Error;
use vsock::VsockStream;

use crate::carried::{Carried, CarriedRun, Hosted};
use crate::inbox::Inbox;
use crate::poll;

/// Memory kept between replies, in bytes.
const OUTBOX_KEPT_BYTES: usize = 256 * 1024;

/// How long the last word of a host that has closed may take to get here; what it sent before comes in order.
const LAST_WORD_WAIT: Duration = Duration::from_secs(1);

/// What the services need of a transport. Closing is dropping.
pub trait Stream: Read + Write + AsFd + Send + 'static {
    /// Whether this error, met while reading or writing, says that the machine has been cloned and this is the clone.
    fn tells_of_clone(error: &io::Error) -> bool;
}

impl Stream for UnixStream {
    /// Processes are not cloned. A reset here only says that the host has closed without reading everything.
    fn tells_of_clone(_: &io::Error) -> bool {
        false
    }
}

impl Stream for VsockStream {
    /// Linux resets the connected sockets of a vsock device that reports a transport reset: it closes them and notes
    /// ECONNRESET as their pending error, which whoever sleeps in a call gets; later calls get ENOTCONN. A host that
    /// closes, or resets a single connection, is an end of file or EPIPE. (Linux 6.12, `virtio_vsock_reset_sock`,
    /// `vsock_connectible_recvmsg`, `vsock_connectible_sendmsg`, `virtio_transport_do_close`.)
    fn tells_of_clone(error: &io::Error) -> bool {
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::NotConnected)
    }
}

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    #[error("the host has closed the connection, or cancelled what was in progress on it")]
    Closed,
    #[error("the host is gone")]
    Gone,
    #[error("the machine has been cloned")]
    Cloned,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the host broke the protocol")]
    Protocol(#[from] MessageError),
}

/// A non-blocking stream with what has been received and what is still to be sent.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    link: Link<S>,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// Bytes at the front of the outbox that are sent already.
    sent: usize,
    carried: Arc<Carried>,
    /// The run in progress, while its host is there.
    run: Option<Hosted>,
    /// Its output so far, as far as it was pushed.
    pushed: Beginning,
}

/// Where replies go.
#[derive(Debug)]
enum Link<S> {
    Host(S),
    /// The machine is a clone, and this was the connection of the run in progress.
    Kept(Arc<CarriedRun>),
}

impl<S: Stream> Connection<S> {
    pub(crate) fn new(stream: S, carried: Arc<Carried>) -> Result<Self, ConnectionError> {
        rustix::io::ioctl_fionbio(&stream, true).map_err(io::Error::from)?;
        Ok(Self {
            link: Link::Host(stream),
            inbox: Inbox::default(),
            outbox: Vec::new(),
            sent: 0,
            carried,
            run: None,
            pushed: Beginning::default(),
        })
    }

    /// Waits for the next request.
    pub(crate) fn receive(&mut self) -> Result<Request, ConnectionError> {
        self.receive_with(Request::decode)
    }

    /// The same, understood by `decode`, which is given the kind and the body.
    pub(crate) fn receive_with<T>(
        &mut self,
        mut decode: impl FnMut(u8, &[u8]) -> Result<T, MessageError>,
    ) -> Result<T, ConnectionError> {
        loop {
            if let Some(request) = self.inbox.next_with(&mut decode)? {
                return Ok(request);
            }
            let Link::Host(stream) = &mut self.link else {
                return Err(ConnectionError::Cloned);
            };
            match self.inbox.fill(stream) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll::wait(&mut [PollFd::new(stream, PollFlags::IN)], None)?;
                }
                Err(error) => return Err(failure::<S>(error)),
            }
        }
    }

    /// Whether the host has already said something while a request is in progress: it must not.
    pub(crate) fn has_surplus(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// From here to [`Self::end_run`] what is in progress, of that name, is carried on without its host.
    pub(crate) fn begin_run(&mut self, name: u64) {
        self.run = Some(self.carried.begin(name));
        self.pushed = Beginning::default();
    }

    /// Whether all of the run has been `sent`.
    pub(crate) fn end_run(&mut self, sent: bool) {
        if let Some(run) = self.run.take()
            && sent
        {
            run.sent();
        }
        if let Link::Kept(run) = &self.link {
            run.conclude();
        }
    }

    /// Adds a reply to what is to be sent.
    pub(crate) fn push(&mut self, reply: &Reply) -> Result<(), ConnectionError> {
        match &self.link {
            Link::Host(_) => {
                self.outbox.extend_from_slice(&reply.encode()?);
                if let Some(run) = &mut self.run {
                    run.note(reply);
                    count(&mut self.pushed, reply, u64::wrapping_add);
                }
            }
            Link::Kept(run) => run.take(reply),
        }
        Ok(())
    }

    /// Whether more may be pushed without piling it up.
    pub(crate) fn is_flushed(&self) -> bool {
        match &self.link {
            Link::Host(_) => self.outbox.is_empty(),
            Link::Kept(run) => run.has_room(),
        }
    }

    /// What to wait for beside a run: the host's going away, and room for more if there is none.
    pub(crate) fn watch(&self) -> Option<PollFd<'_>> {
        match &self.link {
            Link::Host(stream) => {
                let mut events = PollFlags::IN | PollFlags::RDHUP;
                events.set(PollFlags::OUT, !self.is_flushed());
                Some(PollFd::new(stream, events))
            }
            Link::Kept(run) if run.has_room() => None,
            Link::Kept(run) => Some(PollFd::from_borrowed_fd(run.room(), PollFlags::IN)),
        }
    }

    /// To be called when [`Self::watch`] has found more than room to write: fails if the host has said something, which
    /// cancels what is in progress, or is gone and nothing goes on without it.
    pub(crate) fn attend(&mut self) -> Result<(), ConnectionError> {
        let error = match &mut self.link {
            Link::Kept(run) => {
                run.heard_of_room();
                return Ok(());
            }
            Link::Host(stream) => listen(stream),
        };
        self.survive(error)
    }

    /// Fails if the host is gone while a request is carried out, or has said something; does not wait.
    pub(crate) fn look(&mut self) -> Result<(), ConnectionError> {
        if self.has_surplus() {
            return Err(ConnectionError::Closed);
        }
        let host = poll::ready_now(self, PollFlags::IN | PollFlags::RDHUP)?;
        if host.is_empty() { Ok(()) } else { self.attend() }
    }

    /// Sends what the transport takes now.
    pub(crate) fn send_some(&mut self) -> Result<(), ConnectionError> {
        while self.sent < self.outbox.len()
            && let Link::Host(stream) = &mut self.link
        {
            let error = match stream.write(&self.outbox[self.sent..]) {
                Ok(0) => ConnectionError::Gone,
                Ok(count) => {
                    self.sent += count;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => failure::<S>(error),
            };
            let error = match error {
                ConnectionError::Cloned => error,
                // A host that cancels says so before it closes, and that may be on its way still.
                _ => last_word(stream)?,
            };
            self.survive(error)?;
        }
        self.outbox.clear();
        self.outbox.shrink_to(OUTBOX_KEPT_BYTES);
        self.sent = 0;
        Ok(())
    }

    /// Sends everything, however long the host takes.
    pub(crate) fn flush(&mut self) -> Result<(), ConnectionError> {
        loop {
            self.send_some()?;
            match &self.link {
                Link::Host(stream) if !self.outbox.is_empty() => {
                    poll::wait(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Sends a whole frame that somebody else has made, without copying it; not in a run.
    pub(crate) fn send_frame(&mut self, frame: &[u8]) -> Result<(), ConnectionError> {
        self.flush()?;
        let Link::Host(stream) = &mut self.link else {
            return Err(ConnectionError::Cloned);
        };
        let mut rest = frame;
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll::wait(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(failure::<S>(error)),
            }
        }
        Ok(())
    }

    /// The bare stream from here on, and what of it has been received already. The connection is of no use for requests
    /// any more.
    pub(crate) fn bare(&mut self) -> Result<(&mut S, Vec<u8>), ConnectionError> {
        self.flush()?;
        let received = self.inbox.take_all();
        match &mut self.link {
            Link::Host(stream) => Ok((stream, received)),
            Link::Kept(_) => Err(ConnectionError::Cloned),
        }
    }

    pub(crate) fn reply(&mut self, reply: &Reply) -> Result<(), ConnectionError> {
        self.push(reply)?;
        self.flush()
    }

    /// In a clone, or without its host, the run in progress goes on; anything else is over with its connection.
    fn survive(&mut self, error: ConnectionError) -> Result<(), ConnectionError> {
        let lost = matches!(error, ConnectionError::Cloned | ConnectionError::Gone);
        let hosted = self.run.take_if(|_| lost);
        let unsent = unsent(&self.outbox, self.sent);
        let mut taken = self.pushed;
        for reply in &unsent {
            count(&mut taken, reply, u64::wrapping_sub);
        }
        let Some(run) = hosted.map_or(Ok(None), |hosted| hosted.carry(taken))? else {
            return Err(error);
        };
        self.outbox = Vec::new();
        self.sent = 0;
        self.link = Link::Kept(run);
        Ok(())
    }
}

impl<S: Stream> AsFd for Connection<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Host(stream) => stream.as_fd(),
            Link::Kept(run) => run.room(),
        }
    }
}

/// What the host says where it ought to be silent, which cancels what is in progress, or its end.
fn listen<S: Stream>(stream: &mut S) -> ConnectionError {
    match stream.read(&mut [0]) {
        Ok(0) => ConnectionError::Gone,
        Ok(_) => ConnectionError::Closed,
        Err(error) => match failure::<S>(error) {
            ConnectionError::Cloned => ConnectionError::Cloned,
            _ => ConnectionError::Gone,
        },
    }
}

/// The same of a host that takes nothing any more.
fn last_word<S: Stream>(stream: &mut S) -> Result<ConnectionError, ConnectionError> {
    let mut fds = [PollFd::new(stream, PollFlags::IN | PollFlags::RDHUP)];
    poll::wait(&mut fds, Some(Instant::now() + LAST_WORD_WAIT))?;
    Ok(listen(stream))
}

fn failure<S: Stream>(error: io::Error) -> ConnectionError {
    if S::tells_of_clone(&error) {
        ConnectionError::Cloned
    } else {
        error.into()
    }
}

/// Adds a reply's output to what is counted, or takes it away.
fn count(output: &mut Beginning, reply: &Reply, work: fn(u64, u64) -> u64) {
    match reply {
        Reply::Stdout(bytes) => output.stdout_bytes = work(output.stdout_bytes, bytes.len() as u64),
        Reply::Stderr(bytes) => output.stderr_bytes = work(output.stderr_bytes, bytes.len() as u64),
        _ => {}
    }
}

/// The replies in an outbox, as far as they are not sent. Of output sent in part the rest is left; of another reply
/// sent in part, all of it.
fn unsent(outbox: &[u8], sent: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    let mut position = 0;
    while let Some(header) = outbox.get(position..).and_then(<[u8]>::first_chunk::<HEADER_LEN>)
        && let Ok(header) = Header::decode(*header, Direction::GuestToHost)
    {
        let body = position + HEADER_LEN;
        position = body + header.body_len;
        if position <= sent {
            continue;
        }
        let Some(bytes) = outbox.get(body..position) else {
            break;
        };
        let Ok(mut reply) = Reply::decode(header.kind, bytes.to_vec()) else {
            break;
        };
        if let Reply::Stdout(bytes) | Reply::Stderr(bytes) = &mut reply {
            bytes.drain(..sent.saturating_sub(body));
        }
        replies.push(reply);
    }
    replies
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_proto::Exit;

    #[test]
    fn what_was_not_sent_is_found_wherever_sending_stopped() {
        let replies = [
            Reply::Stdout(b"one".to_vec()),
            Reply::Stderr(b"two".to_vec()),
            Reply::Exit(Exit { code: 3 }),
        ];
        let outbox: Vec<u8> = replies.iter().flat_map(|reply| reply.encode().unwrap()).collect();
        for sent in 0..outbox.len() {
            let found = unsent(&outbox, sent);
            assert_eq!(found.last(), Some(&replies[2]), "{sent}");
            let output: usize = found
                .iter()
                .map(|reply| match reply {
                    Reply::Stdout(bytes) | Reply::Stderr(bytes) => bytes.len(),
                    _ => 0,
                })
                .sum();
            let bytes_sent = sent.saturating_sub(HEADER_LEN).min(3) + sent.saturating_sub(19).min(3);
            assert_eq!(output, 6 - bytes_sent, "{sent}");
        }
        assert_eq!(unsent(&outbox, outbox.len()), []);
    }
}

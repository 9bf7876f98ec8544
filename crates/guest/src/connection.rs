//! One connection: requests in, frames out, never blocking without watching for the other side's going away.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use agent_proto::{MessageError, Reply, Request};
use rustix::event::{PollFd, PollFlags};
use thiserror::Error;

use crate::inbox::Inbox;
use crate::poll;

/// What the services need of a transport. Closing is dropping.
pub trait Stream: Read + Write + AsFd + Send + 'static {}

impl<T: Read + Write + AsFd + Send + 'static> Stream for T {}

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    #[error("the host has closed the connection")]
    Closed,
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    #[error("the host broke the protocol")]
    Protocol(#[from] MessageError),
}

/// A non-blocking stream with what has been received and what is still to be sent.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    stream: S,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// Bytes at the front of the outbox that are sent already.
    sent: usize,
}

impl<S: Stream> Connection<S> {
    pub(crate) fn new(stream: S) -> Result<Self, ConnectionError> {
        rustix::io::ioctl_fionbio(&stream, true).map_err(std::io::Error::from)?;
        Ok(Self {
            stream,
            inbox: Inbox::default(),
            outbox: Vec::new(),
            sent: 0,
        })
    }

    /// Waits for the next request.
    pub(crate) fn receive(&mut self) -> Result<Request, ConnectionError> {
        loop {
            if let Some(request) = self.inbox.next()? {
                return Ok(request);
            }
            match self.inbox.fill(&mut self.stream) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll::wait(&mut [PollFd::new(&self.stream, PollFlags::IN)], None)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the host has already said something while a request is in progress: it must not.
    pub(crate) fn has_surplus(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Adds a reply to what is to be sent.
    pub(crate) fn push(&mut self, reply: &Reply) -> Result<(), ConnectionError> {
        self.outbox.extend_from_slice(&reply.encode()?);
        Ok(())
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Sends what the transport takes now.
    pub(crate) fn send_some(&mut self) -> Result<(), ConnectionError> {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.outbox.clear();
        self.outbox.shrink_to(256 * 1024);
        self.sent = 0;
        Ok(())
    }

    /// Sends everything, however long the host takes.
    pub(crate) fn flush(&mut self) -> Result<(), ConnectionError> {
        loop {
            self.send_some()?;
            if self.is_flushed() {
                return Ok(());
            }
            poll::wait(&mut [PollFd::new(&self.stream, PollFlags::OUT)], None)?;
        }
    }

    pub(crate) fn reply(&mut self, reply: &Reply) -> Result<(), ConnectionError> {
        self.push(reply)?;
        self.flush()
    }
}

impl<S: Stream> AsFd for Connection<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

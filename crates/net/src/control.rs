//! Daemons that command the network: one at a time as a rule, or a new one while an old one's connection is still there.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use net_proto::{Outcome, Reply, Request, VERSION};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use slab::Slab;

use crate::poll::{Poll, Token};

/// Daemons connected at once; further ones are turned away.
const CONNECTIONS_MAX: usize = 8;

/// Descriptors of one connection that no command has taken yet. Each attachment brings one and takes it; a daemon may
/// send as many attachments as this without waiting for an answer.
const DESCRIPTORS_MAX: usize = 64;

/// Descriptors in one message.
const DESCRIPTORS_AT_ONCE: usize = 16;

const READ_BYTES: usize = 16 * 1024;

pub(crate) struct Control {
    listener: UnixListener,
    connections: Slab<Connection>,
}

struct Connection {
    stream: UnixStream,
    read: Vec<u8>,
    unsent: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    /// The other end has closed, or cannot be understood.
    over: bool,
}

impl Control {
    pub(crate) fn new(listener: UnixListener, poll: &Poll) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        poll.add(&listener, Token::Listener)?;
        Ok(Self {
            listener,
            connections: Slab::new(),
        })
    }

    pub(crate) fn accept(&mut self, poll: &Poll) {
        while let Ok((stream, _)) = self.listener.accept() {
            let index = self.connections.vacant_key();
            let Some(number) = u32::try_from(index)
                .ok()
                .filter(|_| self.connections.len() < CONNECTIONS_MAX)
            else {
                tracing::warn!("a daemon was turned away: {CONNECTIONS_MAX} are connected");
                continue;
            };
            let ready = stream
                .set_nonblocking(true)
                .and_then(|()| poll.add(&stream, Token::Control(number)).map_err(io::Error::from));
            if let Err(error) = ready {
                tracing::warn!("cannot serve a daemon: {error}");
                continue;
            }
            self.connections.insert(Connection {
                stream,
                read: Vec::new(),
                unsent: Vec::new(),
                descriptors: VecDeque::new(),
                over: false,
            });
        }
    }

    /// The next request of a connection that has become ready. Those that wait for their answer to be taken get no other.
    pub(crate) fn next_request(&mut self, index: usize) -> Option<Request> {
        let connection = self.connections.get_mut(index)?;
        let request = connection.next();
        if connection.over {
            self.connections.remove(index);
            return None;
        }
        request
    }

    pub(crate) fn take_descriptor(&mut self, index: usize) -> Option<OwnedFd> {
        self.connections.get_mut(index)?.descriptors.pop_front()
    }

    pub(crate) fn reply(&mut self, index: usize, id: u64, outcome: Outcome) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let encoded = net_proto::encode(&Reply { id, outcome }).or_else(|error| {
            let outcome = Outcome::Failed(format!("the answer cannot be sent: {error}"));
            net_proto::encode(&Reply { id, outcome })
        });
        match encoded {
            Ok(bytes) => connection.unsent.extend(bytes),
            Err(_) => connection.over = true,
        }
        connection.flush();
    }
}

impl Connection {
    fn next(&mut self) -> Option<Request> {
        self.flush();
        while !self.over && self.unsent.is_empty() {
            match net_proto::decode::<Request>(&self.read) {
                Ok(Some((request, used))) => {
                    self.read.drain(..used);
                    if request.version == VERSION {
                        return Some(request);
                    }
                    tracing::warn!(version = request.version, "a daemon speaks another version");
                    self.over = true;
                }
                Ok(None) if self.fill() => {}
                Ok(None) => return None,
                Err(error) => {
                    tracing::warn!("a daemon is not understood: {error}");
                    self.over = true;
                }
            }
        }
        None
    }

    /// Reads more. False when there is none now.
    fn fill(&mut self) -> bool {
        let start = self.read.len();
        self.read.resize(start + READ_BYTES, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [io::IoSliceMut::new(&mut self.read[start..])];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.stream, &mut parts, &mut ancillary, flags);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        let count = match received {
            Ok(message) => {
                let lost = message.flags.contains(ReturnFlags::CTRUNC);
                self.over = message.bytes == 0 || lost || self.descriptors.len() > DESCRIPTORS_MAX;
                message.bytes
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.over = true;
                0
            }
        };
        self.read.truncate(start + count);
        count > 0
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match send(
                &self.stream,
                &self.unsent,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
    }
}

//! The listening socket and its connections, as one subscriber of the main loop.
//!
//! It only gathers requests; the main loop takes them after each turn and decides.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use pod_types::ErrorChain;
use vmm_proto::{FromVmm, Request};

use super::ControlError;
use super::connection::{Closed, Connection, Delivery};
use crate::log;

/// Daemons connected at a time: one, the one that replaces it, and people who look.
const CONNECTIONS_MAX: usize = 16;
/// How long the end of the process waits for a daemon that does not read.
const FINISH_PATIENCE: Duration = Duration::from_secs(1);

/// Tokens of the event loop: this one for the listener, a connection's number for the others.
const LISTENER: u32 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(u32);

#[derive(Debug)]
pub(crate) struct ControlServer {
    listener: UnixListener,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Numbers are not reused while the process lives, so that a late reply cannot reach another daemon.
    last_id: u32,
    inbox: VecDeque<Incoming>,
}

/// A request, who sent it, and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) from: ConnectionId,
    pub(crate) request: Request,
    pub(crate) files: Vec<OwnedFd>,
}

impl ControlServer {
    /// Listens at `path`. A socket there that nobody answers on is what a crashed process left, and is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, ControlError> {
        let listen = |source| ControlError::Listen {
            path: path.to_owned(),
            source,
        };
        if UnixStream::connect(path).is_ok() {
            return Err(ControlError::InUse {
                path: path.to_owned(),
            });
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(listen)?;
        Self::new(listener).map_err(listen)
    }

    /// Serves a socket that listens already.
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            connections: BTreeMap::new(),
            last_id: LISTENER,
            inbox: VecDeque::new(),
        })
    }

    pub(crate) fn take_requests(&mut self) -> VecDeque<Incoming> {
        std::mem::take(&mut self.inbox)
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.connections.is_empty()
    }

    /// Sends to one daemon, if it is still there.
    pub(crate) fn send(&mut self, id: ConnectionId, message: &FromVmm, ops: &mut EventOps<'_>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let sent = connection.send(message);
            self.settle(id, sent, ops);
        }
    }

    /// Sends to all, also to those that have connected and were not noticed yet, and closes.
    pub(crate) fn finish(&mut self, message: &FromVmm) {
        while let Ok((stream, _)) = self.listener.accept() {
            if let Ok(mut connection) = Connection::new(stream)
                && connection.send(message).is_ok()
            {
                connection.finish(FINISH_PATIENCE);
            }
        }
        for (_, mut connection) in std::mem::take(&mut self.connections) {
            if connection.send(message).is_ok() {
                connection.finish(FINISH_PATIENCE);
            }
        }
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    log::line(format_args!("cannot accept on the control socket: {error}"));
                }
                return;
            }
        };
        if self.connections.len() >= CONNECTIONS_MAX {
            log::line(format_args!(
                "refused a control connection: {CONNECTIONS_MAX} are open"
            ));
            return;
        }
        let Some(id) = self.last_id.checked_add(1) else {
            return;
        };
        match Connection::new(stream) {
            Ok(connection) => {
                if ops.add(Events::with_data(&connection, id, EventSet::IN)).is_ok() {
                    self.last_id = id;
                    self.connections.insert(ConnectionId(id), connection);
                }
            }
            Err(error) => log::line(format_args!("lost a control connection: {error}")),
        }
    }

    fn serve(&mut self, id: ConnectionId, set: EventSet, ops: &mut EventOps<'_>) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut outcome = Ok(());
        if set.contains(EventSet::OUT) {
            outcome = connection.flush();
        }
        if outcome.is_ok() && !(set - EventSet::OUT).is_empty() {
            outcome = connection.receive().map(|deliveries| {
                let incoming = deliveries
                    .into_iter()
                    .map(|Delivery { request, files }| Incoming {
                        from: id,
                        request,
                        files,
                    });
                self.inbox.extend(incoming);
            });
        }
        self.settle(id, outcome, ops);
    }

    /// After any use of a connection: drop it when it is over, else watch for what it waits for.
    fn settle(&mut self, id: ConnectionId, outcome: Result<(), Closed>, ops: &mut EventOps<'_>) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        match outcome {
            Ok(()) => {
                let out = if connection.is_behind() {
                    EventSet::OUT
                } else {
                    EventSet::empty()
                };
                let events = Events::with_data(connection, id.0, EventSet::IN | out);
                if ops.modify(events).is_err() {
                    self.close(id, ops);
                }
            }
            Err(why) => {
                if !matches!(why, Closed::ByPeer) {
                    log::line(format_args!("closed a control connection: {}", ErrorChain(&why)));
                }
                self.close(id, ops);
            }
        }
    }

    fn close(&mut self, id: ConnectionId, ops: &mut EventOps<'_>) {
        if let Some(connection) = self.connections.remove(&id) {
            // It was added, or it would not be in the map.
            let _ = ops.remove(Events::empty(&connection));
        }
    }
}

impl MutEventSubscriber for ControlServer {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::with_data(&self.listener, LISTENER, EventSet::IN)) {
            log::line(format_args!("cannot watch the control socket: {error}"));
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        match events.data() {
            LISTENER => self.accept(ops),
            id => self.serve(ConnectionId(id), events.event_set(), ops),
        }
    }
}

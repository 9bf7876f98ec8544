//! All connections of one guest: finds the one a packet or an event belongs to, makes new ones, ends old ones, and
//! keeps the order in which they get their turn.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use event_manager::EventSet;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};

use super::connection::Connection;
use super::greeting::{self, Greeting};
use super::packet::{Header, Op, TYPE_STREAM};
use super::stream::{Ports, Stream};
use super::{CONNECTIONS_MAX, HOST_CID};
use crate::virtio::{Host, Scatter, TOKENS};

const LISTENER_TOKEN: u32 = 0;

/// First port the host side of a connection gets: above those services listen on.
const HOST_PORT_FIRST: u32 = 1 << 30;

/// Replies to packets of no connection that wait for a receive buffer; when there are so many, no packet is taken from
/// the guest until it has taken some of them.
const REPLIES_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct Mux {
    guest_cid: u64,
    listener: UnixListener,
    /// Where guests' connections to a port go: this path, `_`, the port.
    path: PathBuf,
    entries: HashMap<u32, Entry>,
    tokens: HashMap<Ports, u32>,
    token_next: u32,
    port_next: u32,
    /// Streams with something to send to the guest, each once; the front one's turn is next.
    turns: VecDeque<u32>,
    replies: VecDeque<Header>,
    /// Sockets of connections that a reset ended, until the event loop can forget them.
    leaving: Vec<UnixStream>,
}

#[derive(Debug)]
enum Entry {
    /// The host process has not said which port it wants.
    Greeting(UnixStream),
    Stream {
        stream: Box<Stream>,
        queued: bool,
    },
}

impl Mux {
    pub(super) fn new(guest_cid: u32, listener: UnixListener, path: PathBuf) -> Self {
        Self {
            guest_cid: guest_cid.into(),
            listener,
            path,
            entries: HashMap::new(),
            tokens: HashMap::new(),
            token_next: LISTENER_TOKEN + 1,
            port_next: HOST_PORT_FIRST,
            turns: VecDeque::new(),
            replies: VecDeque::new(),
            leaving: Vec::new(),
        }
    }

    pub(super) fn port_next(&self) -> u32 {
        self.port_next
    }

    /// Gives no port below this one before all others have been used: the guest may remember them for a while.
    pub(super) fn skip_ports(&mut self, port: u32) {
        self.port_next = port.max(HOST_PORT_FIRST);
    }

    /// All sockets there are.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let connections = self.entries.values().map(|entry| match entry {
            Entry::Greeting(socket) => socket.as_raw_fd(),
            Entry::Stream { stream, .. } => stream.socket.as_raw_fd(),
        });
        let leaving = self.leaving.iter().map(AsRawFd::as_raw_fd);
        let listener = self.listener.as_raw_fd();
        connections.chain(leaving).chain([listener]).collect()
    }

    /// In a clone: the same guest with other host processes. All connections are gone.
    pub(super) fn inherit(&mut self, listener: UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().map_or_else(PathBuf::new, Path::to_owned);
        let fresh = Self::new(0, listener, path);
        *self = Self {
            guest_cid: self.guest_cid,
            // The guest may remember the ports of its old connections for a while.
            port_next: self.port_next,
            ..fresh
        };
        Ok(())
    }

    pub(super) fn watch_listener(
        &mut self,
        host: &mut Host<'_, '_>,
    ) -> Result<(), crate::virtio::DeviceError> {
        // By edges: when no connection can be accepted, for want of descriptors, the next one to come tries again.
        host.watch(
            &self.listener,
            LISTENER_TOKEN,
            EventSet::IN | EventSet::EDGE_TRIGGERED,
        )
    }

    pub(super) fn connections(&self) -> usize {
        self.tokens.len()
    }

    // From the host.

    pub(super) fn host_event(&mut self, token: u32, set: EventSet, host: &mut Host<'_, '_>) {
        match self.entries.get_mut(&token) {
            Some(Entry::Greeting(_)) => self.read_greeting(token, host),
            Some(Entry::Stream { stream, .. }) => {
                let interest = stream.interest();
                stream.host_event(set);
                self.settle(token, interest, host);
            }
            None if token == LISTENER_TOKEN => self.accept(host),
            // An event of a connection that ended in the same round.
            None => {}
        }
    }

    fn accept(&mut self, host: &mut Host<'_, '_>) {
        while let Ok((socket, _address)) = self.listener.accept() {
            // Over the bound it is closed at once, which the other side sees.
            if self.entries.len() < CONNECTIONS_MAX
                && socket.set_nonblocking(true).is_ok()
                && let Some(token) = self.watch_new(&socket, host)
            {
                self.entries.insert(token, Entry::Greeting(socket));
                // The line is often there already.
                self.read_greeting(token, host);
            }
        }
    }

    /// Reads the line that names a port, and no byte beyond it.
    fn read_greeting(&mut self, token: u32, host: &mut Host<'_, '_>) {
        let Some(Entry::Greeting(socket)) = self.entries.get(&token) else {
            return;
        };
        let mut line = [0; greeting::LINE_BYTES_MAX];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let greeting = match socket::recv(socket.as_raw_fd(), &mut line, flags) {
            Ok(count @ 1..) => greeting::parse(&line[..count]).ok(),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Some(Greeting::Incomplete),
            Ok(_) | Err(_) => None,
        };
        match greeting {
            Some(Greeting::Incomplete) => {}
            Some(Greeting::Connect { port, used })
                if socket::recv(socket.as_raw_fd(), &mut line[..used], MsgFlags::MSG_DONTWAIT)
                    == Ok(used) =>
            {
                self.connect_to_guest(token, port);
            }
            _ => self.end(token, host),
        }
    }

    fn connect_to_guest(&mut self, token: u32, guest_port: u32) {
        let ports = self.new_ports(guest_port);
        if let Some(Entry::Greeting(socket)) = self.entries.remove(&token) {
            self.insert(token, Stream::new(socket, ports, Connection::asked_by_host()));
        }
    }

    // From the guest.

    /// Whether packets of the guest may be taken: there is room for the replies they may cause.
    pub(super) fn takes_packets(&self) -> bool {
        self.replies.len() < REPLIES_MAX
    }

    /// Takes a packet of the guest. `payload` is what follows its header in the chain, `None` when that is not as long
    /// as the header says.
    pub(super) fn guest_packet(
        &mut self,
        header: &Header,
        payload: Option<&Scatter<'_>>,
        host: &mut Host<'_, '_>,
    ) {
        // A sender that is not who it says it is gets no answer: there is nobody to answer to.
        if header.src_cid != self.guest_cid {
            return;
        }
        let ports = Ports {
            host: header.dst_port,
            guest: header.src_port,
        };
        if header.dst_cid != HOST_CID || header.kind != TYPE_STREAM {
            self.reply_reset(header);
        } else if let Some(&token) = self.tokens.get(&ports) {
            self.stream_packet(token, header, payload, host);
        } else if header.op == Op::Request as u16 {
            self.connect_to_host(ports, header, host);
        } else {
            self.reply_reset(header);
        }
    }

    fn stream_packet(
        &mut self,
        token: u32,
        header: &Header,
        payload: Option<&Scatter<'_>>,
        host: &mut Host<'_, '_>,
    ) {
        let Some(Entry::Stream { stream, .. }) = self.entries.get_mut(&token) else {
            return;
        };
        let interest = stream.interest();
        match payload {
            Some(payload) => stream.guest_packet(header, payload),
            None => stream.connection.abort(),
        }
        self.settle(token, interest, host);
    }

    fn connect_to_host(&mut self, ports: Ports, request: &Header, host: &mut Host<'_, '_>) {
        let mut path = self.path.clone().into_os_string();
        path.push(format!("_{}", ports.host));
        let connected = if self.entries.len() < CONNECTIONS_MAX {
            connect_to(Path::new(&path)).ok()
        } else {
            None
        };
        match connected.and_then(|socket| self.watch_new(&socket, host).map(|token| (socket, token))) {
            Some((socket, token)) => {
                self.insert(
                    token,
                    Stream::new(socket, ports, Connection::asked_by_guest(request)),
                );
            }
            None => self.reply_reset(request),
        }
    }

    fn reply_reset(&mut self, header: &Header) {
        // A reset is never answered, or both sides could go on for ever.
        if header.op != Op::Reset as u16 {
            self.replies.push_back(header.reset_reply());
        }
    }

    // To the guest.

    pub(super) fn next_reply(&mut self) -> Option<Header> {
        self.replies.pop_front()
    }

    pub(super) fn return_reply(&mut self, reply: Header) {
        self.replies.push_front(reply);
    }

    /// The stream whose turn it is. It is given back with [`Mux::end_turn`].
    pub(super) fn next_turn(&mut self) -> Option<(u32, &mut Stream)> {
        loop {
            let token = self.turns.pop_front()?;
            // Tokens of streams that have ended may still be in the queue.
            if matches!(self.entries.get(&token), Some(Entry::Stream { .. })) {
                return match self.entries.get_mut(&token) {
                    Some(Entry::Stream { stream, queued }) => {
                        *queued = false;
                        Some((token, stream))
                    }
                    _ => None,
                };
            }
        }
    }

    /// Ends a turn: the stream goes to the end of the queue when it has more.
    pub(super) fn end_turn(&mut self, token: u32) {
        self.queue(token);
    }

    pub(super) fn has_output(&self) -> bool {
        !self.replies.is_empty() || !self.turns.is_empty()
    }

    /// Completes a header with both addresses.
    pub(super) fn address(&self, header: &mut Header) {
        header.src_cid = HOST_CID;
        header.dst_cid = self.guest_cid;
    }

    // Bookkeeping.

    /// Forgets a connection and closes its socket.
    pub(super) fn end(&mut self, token: u32, host: &mut Host<'_, '_>) {
        match self.entries.remove(&token) {
            Some(Entry::Greeting(socket)) => host.unwatch(&socket),
            Some(Entry::Stream { stream, .. }) => {
                host.unwatch(&stream.socket);
                self.free_ports(token, stream.ports);
            }
            None => {}
        }
    }

    /// The driver has forgotten its connections: those it knew of are gone. Those it has not been asked for yet wait on.
    pub(super) fn reset(&mut self) {
        self.replies.clear();
        self.turns.clear();
        let mut kept = HashMap::new();
        for (token, entry) in std::mem::take(&mut self.entries) {
            match entry {
                Entry::Stream { stream, .. } if !stream.connection.is_unknown_to_guest() => {
                    self.free_ports(token, stream.ports);
                    self.leaving.push(stream.socket);
                }
                Entry::Stream { stream, .. } => {
                    self.turns.push_back(token);
                    kept.insert(token, Entry::Stream { stream, queued: true });
                }
                greeting @ Entry::Greeting(_) => {
                    kept.insert(token, greeting);
                }
            }
        }
        self.entries = kept;
    }

    /// Closes what a reset has left over.
    pub(super) fn let_leave(&mut self, host: &mut Host<'_, '_>) {
        for socket in self.leaving.drain(..) {
            host.unwatch(&socket);
        }
    }

    fn insert(&mut self, token: u32, stream: Stream) {
        self.tokens.insert(stream.ports, token);
        self.entries.insert(
            token,
            Entry::Stream {
                stream: Box::new(stream),
                queued: false,
            },
        );
        self.queue(token);
    }

    /// After a stream has changed: ends it when it is done; else watches its socket for what it needs now, and gives it
    /// a turn if it has something to send.
    fn settle(&mut self, token: u32, interest_before: EventSet, host: &mut Host<'_, '_>) {
        if let Some(Entry::Stream { stream, .. }) = self.entries.get_mut(&token) {
            if stream.is_done() {
                self.end(token, host);
                return;
            }
            let interest = stream.interest();
            if interest != interest_before && host.rewatch(&stream.socket, token, interest).is_err() {
                stream.connection.abort();
            }
        }
        // The guest may use the ports of a connection that is over again, while the host still reads its rest.
        if let Some(Entry::Stream { stream, .. }) = self.entries.get(&token)
            && stream.connection.is_over()
        {
            self.free_ports(token, stream.ports);
        }
        self.queue(token);
    }

    fn free_ports(&mut self, token: u32, ports: Ports) {
        if self.tokens.get(&ports) == Some(&token) {
            self.tokens.remove(&ports);
        }
    }

    fn queue(&mut self, token: u32) {
        if let Some(Entry::Stream { stream, queued }) = self.entries.get_mut(&token) {
            stream.ask_for_room();
            if !*queued && stream.wants_to_send() {
                *queued = true;
                self.turns.push_back(token);
            }
        }
    }

    /// Watches a new connection's socket, under a token no other has.
    fn watch_new(&mut self, socket: &UnixStream, host: &mut Host<'_, '_>) -> Option<u32> {
        let token = loop {
            let token = self.token_next;
            self.token_next = if token + 1 < TOKENS {
                token + 1
            } else {
                LISTENER_TOKEN + 1
            };
            if !self.entries.contains_key(&token) {
                break token;
            }
        };
        let set = EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        host.watch(socket, token, set).ok().map(|()| token)
    }

    fn new_ports(&mut self, guest: u32) -> Ports {
        loop {
            let ports = Ports {
                host: self.port_next,
                guest,
            };
            self.port_next = self
                .port_next
                .checked_add(1)
                .filter(|port| *port < u32::MAX)
                .unwrap_or(HOST_PORT_FIRST);
            if !self.tokens.contains_key(&ports) {
                return ports;
            }
        }
    }
}

/// Connects without ever waiting: a listener whose queue is full refuses.
/// By the path the device was given, or, when the process has been confined to the VM's own directory, in that.
fn connect_to(path: &Path) -> io::Result<UnixStream> {
    connect(path).or_else(|error| match path.file_name() {
        Some(name) if error.kind() == io::ErrorKind::NotFound => connect(Path::new(name)),
        _ => Err(error),
    })
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

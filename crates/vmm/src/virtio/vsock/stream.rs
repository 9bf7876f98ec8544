//! One connection with its host socket: moves bytes as the state machine allows.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use event_manager::EventSet;

use super::connection::{Connection, Received};
use super::packet::{Header, Op};
use crate::virtio::Scatter;

/// Sides of a connection by their ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: UnixStream,
    pub(super) ports: Ports,
    pub(super) connection: Connection,
    /// What the host socket has not taken yet, bounded by the credit the guest has.
    backlog: VecDeque<u8>,
    /// The host socket may have something to read. Watched by edges, so this is what is remembered of them.
    readable: bool,
    /// The host has ended its sending; what is left is read to the end.
    hung_up: bool,
    /// The host has closed its socket: it takes nothing any more either.
    gone: bool,
    /// The end of what the host sends has been read.
    fetched_all: bool,
    /// Our end for writing has been shut down, because the guest sends no more.
    write_ended: bool,
    read_ended: bool,
}

/// What came of a read from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    Bytes(usize),
    Nothing,
}

impl Stream {
    pub(super) fn new(socket: UnixStream, ports: Ports, connection: Connection) -> Self {
        Self {
            socket,
            ports,
            connection,
            backlog: VecDeque::new(),
            readable: true,
            hung_up: false,
            gone: false,
            fetched_all: false,
            write_ended: false,
            read_ended: false,
        }
    }

    /// What to watch the socket for. Space to write only while something waits for it: the edge comes with every
    /// read of the other side, and would wake us for nothing.
    pub(super) fn interest(&self) -> EventSet {
        let always = EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        if self.backlog.is_empty() {
            always
        } else {
            always | EventSet::OUT
        }
    }

    /// Something happened to the host socket.
    pub(super) fn host_event(&mut self, set: EventSet) {
        if set.intersects(EventSet::IN | EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR) {
            self.readable = true;
        }
        if set.intersects(EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR) {
            self.hung_up = true;
        }
        if set.contains(EventSet::HANG_UP) {
            self.gone = true;
            self.tell_host_end();
            if self.connection.is_asking() {
                self.connection.abort();
            }
        }
        if !self.backlog.is_empty() && set.intersects(EventSet::OUT | EventSet::HANG_UP | EventSet::ERROR) {
            self.drain_backlog();
        }
    }

    /// Takes a packet of the guest; `payload` is exactly what its header says.
    pub(super) fn guest_packet(&mut self, header: &Header, payload: &Scatter<'_>) {
        match self.connection.receive(header) {
            Received::Accepted => self.greet(),
            Received::Data => self.pass_on(payload),
            Received::Shutdown => self.follow_shutdown(),
            Received::Credit | Received::Reset | Received::Violation => {}
        }
    }

    /// Nothing is left to do on either side. A guest that has closed in order gives up on us after some seconds and
    /// resets; the host still gets what the guest had sent.
    pub(super) fn is_done(&self) -> bool {
        let delivering = self.connection.guest_sends_no_more() && !self.backlog.is_empty();
        let unheard = self.gone && self.connection.is_unknown_to_guest();
        unheard || (self.connection.is_over() && !delivering)
    }

    /// Whether there is something to send to the guest now.
    pub(super) fn wants_to_send(&self) -> bool {
        self.connection.has_control() || self.wants_to_fetch()
    }

    /// Whether data should be read from the host now.
    pub(super) fn wants_to_fetch(&self) -> bool {
        self.readable && self.connection.room() > 0
    }

    /// Asks the guest for room when the host has data and there is none.
    pub(super) fn ask_for_room(&mut self) {
        if self.readable {
            self.connection.ask_for_room();
        }
    }

    /// Reads from the host into `target`, which has no more than the connection's room.
    pub(super) fn fetch(&mut self, target: &Scatter<'_>) -> Fetched {
        match target.receive(self.socket.as_fd()) {
            Ok(0) => {
                self.readable = false;
                self.fetched_all = true;
                self.tell_host_end();
                Fetched::Nothing
            }
            Ok(count) => {
                // Less than asked for is all there was: the next byte brings an edge. The end of the stream has
                // brought its edge already, so after one we read until the end shows.
                self.readable = count == target.len() || self.hung_up;
                self.connection.send(u32::try_from(count).unwrap_or(u32::MAX));
                Fetched::Bytes(count)
            }
            Err(error) => {
                self.readable = false;
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.connection.abort();
                }
                Fetched::Nothing
            }
        }
    }

    /// The header of a packet to the guest.
    pub(super) fn header(&mut self, op: Op, flags: u32, len: u32) -> Header {
        let mut header = Header {
            src_port: self.ports.host,
            dst_port: self.ports.guest,
            len,
            op: op as u16,
            flags,
            ..Header::default()
        };
        self.connection.stamp(&mut header);
        header
    }

    /// Tells the host process that it is connected, and to what.
    fn greet(&mut self) {
        let line = format!("OK {}\n", self.ports.host);
        let mut bytes = line.into_bytes();
        let len = bytes.len();
        // A socket that has taken nothing yet has room for a line, unless its other side has gone.
        if !matches!(Scatter::from(&mut bytes[..]).send(self.socket.as_fd()), Ok(sent) if sent == len) {
            self.connection.abort();
        }
    }

    fn pass_on(&mut self, payload: &Scatter<'_>) {
        let mut sent = 0;
        if self.backlog.is_empty() && !self.write_ended {
            match payload.send(self.socket.as_fd()) {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_gone) => self.host_refuses(),
            }
        }
        if self.write_ended {
            sent = payload.len();
        }
        if sent < payload.len() {
            let mut rest = vec![0; payload.len() - sent];
            payload.part(sent, rest.len()).copy_to(&mut rest);
            self.backlog.extend(rest);
        }
        self.connection.forward(u32::try_from(sent).unwrap_or(u32::MAX));
        self.follow_shutdown();
    }

    fn drain_backlog(&mut self) {
        while !self.backlog.is_empty() {
            let (first, _) = self.backlog.as_mut_slices();
            match Scatter::from(first).send(self.socket.as_fd()) {
                Ok(count) => {
                    self.backlog.drain(..count);
                    self.connection.forward(u32::try_from(count).unwrap_or(u32::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_gone) => self.host_refuses(),
            }
        }
        self.backlog = VecDeque::new();
        self.follow_shutdown();
    }

    /// The guest hears that the host has closed only after all that the host sent.
    fn tell_host_end(&mut self) {
        if self.fetched_all {
            self.connection.host_sends_no_more();
            if self.gone {
                self.connection.host_receives_no_more();
            }
        }
    }

    /// The host takes no more. What it has not taken is dropped, but counts as passed on: the guest must not wait for
    /// room that never comes.
    fn host_refuses(&mut self) {
        self.write_ended = true;
        self.backlog = VecDeque::new();
        self.connection.host_receives_no_more();
        self.connection.forward(u32::MAX);
    }

    /// Passes the guest's shutdown on: for its sending, once everything it sent is out.
    fn follow_shutdown(&mut self) {
        // A socket that is shut down already is what we want.
        if self.connection.guest_sends_no_more() && self.backlog.is_empty() && !self.write_ended {
            self.write_ended = true;
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        if self.connection.guest_receives_no_more() && !self.read_ended {
            self.read_ended = true;
            let _ = self.socket.shutdown(Shutdown::Read);
        }
    }
}

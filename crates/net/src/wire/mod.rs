//! One guest's wire and everything behind it.
//!
//! A turn reads some frames, hands each to what it belongs to, and then looks once at everything that has something to
//! do. All of it is bounded: frames in a turn, connections, those that have not come about, flows of UDP, questions.

mod clone;
mod names;
mod secrets;
mod tcp;
mod udp;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use egress::Policy;
use net_proto::{Counters, FRAME_BYTES_MAX, GATEWAY_IPV4, GATEWAY_IPV6, LogPage, WireId};
use slab::Slab;
use tokio::sync::Semaphore;

use crate::answers;
use crate::flow::{Flow, Inherited, Key};
use crate::journal::Journal;
use crate::link::{Link, Received};
use crate::memory::NameMemory;
use crate::packet::{Packet, parse};
use crate::poll::Token;
use crate::secrets::{CONNECTIONS_OF_WIRE_MAX, SecretSet};
use crate::world::World;

/// Frames read in one turn, so that a guest that floods does not keep others waiting.
const FRAMES_MAX: usize = 64;

pub(crate) struct Wire {
    pub(crate) id: WireId,
    pub(crate) serial: u64,
    slot: u32,
    policy: Policy,
    link: Link,
    flows: Slab<Flow>,
    by_key: HashMap<Key, usize>,
    /// To be looked at in this turn.
    queue: VecDeque<usize>,
    /// To be looked at when the wire has room.
    stalled: Vec<usize>,
    /// For their turn to be connected, with their numbers.
    waiting: VecDeque<(usize, u64)>,
    connecting: usize,
    young: usize,
    /// Taken by the buffers of its connections.
    buffer_bytes: usize,
    udp: udp::Table,
    /// Connections that the guest has from before it was cloned.
    inherited: VecDeque<Inherited>,
    questions: u32,
    pub(crate) names: NameMemory,
    secrets: SecretSet,
    /// For connections with secrets.
    places: Arc<Semaphore>,
    journal: Journal,
    counters: Counters,
    /// In the list of wires that have something to do.
    pub(crate) queued: bool,
}

/// How a turn has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Done,
    /// There are frames left.
    More,
    /// The guest's end is gone.
    Over,
}

impl Wire {
    pub(crate) fn new(id: WireId, slot: u32, fd: OwnedFd, policy: Policy, world: &mut World) -> Self {
        Self {
            id,
            serial: world.serial(),
            slot,
            policy,
            link: Link::new(fd),
            flows: Slab::new(),
            by_key: HashMap::new(),
            queue: VecDeque::new(),
            stalled: Vec::new(),
            waiting: VecDeque::new(),
            connecting: 0,
            young: 0,
            buffer_bytes: 0,
            udp: udp::Table::default(),
            inherited: VecDeque::new(),
            questions: 0,
            names: NameMemory::default(),
            secrets: SecretSet::default(),
            places: Arc::new(Semaphore::new(CONNECTIONS_OF_WIRE_MAX)),
            journal: Journal::default(),
            counters: Counters::default(),
            queued: false,
        }
    }

    pub(crate) fn register(&self, world: &World) -> rustix::io::Result<()> {
        world.poll.add(self.link.fd(), Token::Wire(self.slot))
    }

    /// Does what there is to do, within bounds.
    pub(crate) fn turn(&mut self, buffer: &mut [u8], world: &mut World) -> Turn {
        self.flush();
        let mut turn = Turn::More;
        for _ in 0..FRAMES_MAX {
            match self.link.receive(buffer) {
                Received::Frame(len) if len <= FRAME_BYTES_MAX => {
                    self.frame(buffer.get(..len).unwrap_or_default(), world);
                }
                Received::Frame(_) => self.link.dropped += 1,
                Received::Nothing => {
                    turn = Turn::Done;
                    break;
                }
                Received::Closed => return Turn::Over,
            }
        }
        self.look_at_queue(world);
        turn
    }

    pub(crate) fn log(&self, after: u64, max: usize) -> LogPage {
        self.journal.page(after, max)
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            tcp_open: self.flows.len() as u64,
            udp_open: self.udp.len() as u64,
            frames_up: self.counters.frames_up + self.link.frames_up,
            frames_down: self.counters.frames_down + self.link.frames_down,
            dropped: self.counters.dropped + self.link.dropped,
            ..self.counters
        }
    }

    /// From now on.
    pub(crate) fn set_policy(&mut self, policy: Policy, world: &mut World) {
        if self.policy == policy {
            return;
        }
        self.policy = policy;
        self.end_forbidden_flows(world);
        self.end_forbidden_datagrams(world);
    }

    /// Ends everything; the guest is not told.
    pub(crate) fn close(&mut self, world: &mut World) {
        world.resolver.forget(self.slot, &mut world.timers);
        self.end_all_flows(world);
        self.udp.clear(self.slot, &mut self.journal, world);
    }

    /// Sends what waited for room.
    fn flush(&mut self) {
        if !self.link.has_room() && !self.link.flush() {
            return;
        }
        self.probe_inherited();
        for index in std::mem::take(&mut self.stalled) {
            self.look_later(index);
        }
    }

    fn frame(&mut self, frame: &[u8], world: &mut World) {
        if self.policy.is_closed() {
            self.link.dropped += 1;
            return;
        }
        match parse(frame) {
            Ok(Packet::WhoHas(target, asker)) => answers::who_has(&mut self.link, target, asker),
            Ok(Packet::Echo { to, message }) => answers::echo(&mut self.link, to, message),
            Ok(Packet::Tcp(segment)) => self.segment(&segment, world),
            Ok(Packet::Udp(datagram)) => self.datagram(&datagram, world),
            Err(_) => self.link.dropped += 1,
        }
    }
}

/// Whether something is for the gateway itself.
fn is_gateway(address: std::net::IpAddr) -> bool {
    address == GATEWAY_IPV4 || address == GATEWAY_IPV6
}

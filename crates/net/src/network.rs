//! The one loop.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use egress::{Policy, Ranges};
use ipnet::IpNet;
use net_proto::{
    Attach, Command, Counters, FRAME_BYTES_MAX, GATEWAY_IPV4, GATEWAY_IPV6, LOG_ENTRIES_MAX, NetStats,
    Outcome, PREFIX_BITS_IPV4, PREFIX_BITS_IPV6, Secret, WireId, WireStats,
};
use rustix::io::Errno;
use slab::Slab;
use thiserror::Error;

use crate::control::Control;
use crate::dns::{Hosts, Resolver, Servers};
use crate::own;
use crate::poll::{Event, Poll, Token};
use crate::secrets::{Authority, SecretSet, Terminator, TerminatorError, Trust};
use crate::timers::Timer;
use crate::wire::{Turn, Wire};
use crate::world::{Room, World};

/// The host's own addresses are read again when a wire is attached so long after the last time.
const OWN_FOR: Duration = Duration::from_secs(10);

/// Timers looked at in one turn.
const TIMERS_MAX: usize = 1024;

const NO_AUTHORITY: &str = "there can be no secrets: the network process was started without an authority that signs \
     for their hosts (--ca-cert and --ca-key)";

#[derive(Debug)]
pub struct Settings {
    pub servers: Servers,
    /// Names that no server is asked for, in the form of `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    pub ranges: Ranges,
    /// Sockets to the outside, of all wires.
    pub sockets_max: usize,
    /// For the buffers of connections, of all wires; [`BUFFER_BYTES_MAX`](crate::BUFFER_BYTES_MAX) unless little is there.
    pub buffer_bytes_max: usize,
    /// Signs for the hosts of secrets; without one there can be no secrets.
    pub authority: Option<Authority>,
    /// Whose certificates the hosts of secrets may have.
    pub trust: Trust,
}

#[derive(Debug, Error)]
pub enum NetworkError {
    #[error("cannot make an epoll instance")]
    Poll(#[source] std::io::Error),
    #[error("cannot wait for the control socket")]
    Listen(#[source] std::io::Error),
    #[error("cannot serve connections with secrets")]
    Secrets(#[source] TerminatorError),
    #[error("cannot wait for events")]
    Wait(#[source] std::io::Error),
}

/// All wires of a host, and whoever commands them.
pub struct Network {
    world: World,
    control: Control,
    wires: Slab<Wire>,
    by_id: BTreeMap<WireId, usize>,
    /// When the host's own addresses were read.
    own_at: Option<Instant>,
    /// Those that have something to do.
    queue: VecDeque<usize>,
    events: Vec<Event>,
    /// Frames and datagrams are read into it.
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Network")
            .field("wires", &self.by_id)
            .finish_non_exhaustive()
    }
}

/// The guests' own network, which is on every wire and beyond none: nothing else is there to be reached.
#[must_use]
pub fn guest_ranges() -> Vec<IpNet> {
    let nets = [
        IpNet::new(GATEWAY_IPV4.into(), PREFIX_BITS_IPV4),
        IpNet::new(GATEWAY_IPV6.into(), PREFIX_BITS_IPV6),
    ];
    nets.into_iter().flatten().map(|net| net.trunc()).collect()
}

impl Network {
    /// # Errors
    /// The host's kernel refuses what is needed to wait.
    pub fn new(listener: UnixListener, settings: Settings) -> Result<Self, NetworkError> {
        let poll = Poll::new().map_err(|error| NetworkError::Poll(error.into()))?;
        let mut ranges = settings.ranges;
        ranges.never.extend(guest_ranges());
        let mut world = World::new(
            poll,
            Resolver::new(settings.servers, Hosts::new(settings.hosts)),
            ranges,
            Room {
                sockets: settings.sockets_max,
                buffer_bytes: settings.buffer_bytes_max,
            },
        );
        if let Some(authority) = settings.authority {
            let started = Terminator::start(authority, settings.trust);
            world.terminator = Some(started.map_err(NetworkError::Secrets)?);
        }
        let control = Control::new(listener, &world.poll).map_err(NetworkError::Listen)?;
        Ok(Self {
            world,
            control,
            wires: Slab::new(),
            by_id: BTreeMap::new(),
            own_at: None,
            queue: VecDeque::new(),
            events: Vec::new(),
            buffer: vec![0; FRAME_BYTES_MAX],
        })
    }

    /// Serves until waiting itself fails.
    ///
    /// # Errors
    /// The host's kernel does.
    pub fn run(mut self) -> Result<(), NetworkError> {
        loop {
            self.turn(None)?;
        }
    }

    /// Waits for something to happen, at most so long, and does what there is to do.
    ///
    /// # Errors
    /// The host's kernel does not let us wait.
    pub fn turn(&mut self, bound: Option<Duration>) -> Result<(), NetworkError> {
        let timers = self.world.timers.next_in(Instant::now());
        let bound = if self.queue.is_empty() {
            [timers, bound].into_iter().flatten().min()
        } else {
            Some(Duration::ZERO)
        };
        let mut events = std::mem::take(&mut self.events);
        let waited = self.world.poll.wait(bound, |event| events.push(event));
        waited.map_err(|error| NetworkError::Wait(error.into()))?;
        self.world.now = Instant::now();
        for event in events.drain(..) {
            self.event(&event);
        }
        self.events = events;
        self.timers();
        self.answers();
        for _ in 0..self.queue.len() {
            let Some(slot) = self.queue.pop_front() else { break };
            self.serve(slot);
        }
        self.answers();
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        match event.token {
            Token::Listener => self.control.accept(&self.world.poll),
            Token::Control(index) => self.commands(index as usize),
            Token::Wire(slot) => self.wake(slot as usize),
            Token::Flow(slot, flow) => {
                if let Some(wire) = self.wires.get_mut(slot as usize) {
                    wire.flow_ready(flow, event.readable, event.writable);
                    self.wake(slot as usize);
                }
            }
            Token::Udp(slot, flow) => {
                if let Some(wire) = self.wires.get_mut(slot as usize) {
                    wire.udp_ready(flow, &mut self.buffer, &mut self.world);
                }
            }
            Token::Question(index) => {
                let world = &mut self.world;
                world
                    .resolver
                    .look(index, &world.poll, &mut world.timers, world.now);
            }
        }
    }

    fn timers(&mut self) {
        for _ in 0..TIMERS_MAX {
            let Some(timer) = self.world.timers.due(self.world.now) else {
                return;
            };
            match timer {
                Timer::Flow(slot, flow) => {
                    if let Some(wire) = self.wires.get_mut(slot as usize) {
                        wire.flow_due(flow);
                        self.wake(slot as usize);
                    }
                }
                Timer::Udp(slot, flow) => {
                    if let Some(wire) = self.wires.get_mut(slot as usize) {
                        wire.udp_due(flow, &mut self.world);
                    }
                }
                Timer::Question(index) => {
                    let world = &mut self.world;
                    world
                        .resolver
                        .due(index, &world.poll, &mut world.timers, world.now);
                }
            }
        }
    }

    /// Brings answers about names to whoever asked.
    fn answers(&mut self) {
        for answered in self.world.resolver.take_answered() {
            let slot = answered.asked.wire as usize;
            let serial = answered.asked.wire_serial;
            let Some(wire) = self.wires.get_mut(slot).filter(|wire| wire.serial == serial) else {
                continue;
            };
            wire.answered(answered, &mut self.world);
            self.wake(slot);
        }
    }

    fn wake(&mut self, slot: usize) {
        if let Some(wire) = self.wires.get_mut(slot)
            && !wire.queued
        {
            wire.queued = true;
            self.queue.push_back(slot);
        }
    }

    fn serve(&mut self, slot: usize) {
        let Some(wire) = self.wires.get_mut(slot) else {
            return;
        };
        wire.queued = false;
        match wire.turn(&mut self.buffer, &mut self.world) {
            Turn::Done => {}
            Turn::More => self.wake(slot),
            Turn::Over => self.end(slot),
        }
    }

    /// Forgets a wire.
    fn end(&mut self, slot: usize) {
        let Some(mut wire) = self.wires.try_remove(slot) else {
            return;
        };
        wire.close(&mut self.world);
        self.by_id.remove(&wire.id);
        let mut counters = wire.counters();
        (counters.tcp_open, counters.udp_open) = (0, 0);
        add(&mut self.world.past, &counters);
    }

    fn commands(&mut self, connection: usize) {
        while let Some(request) = self.control.next_request(connection) {
            let outcome = self.command(request.command, connection);
            self.control.reply(connection, request.id, outcome);
        }
    }

    fn command(&mut self, command: Command, connection: usize) -> Outcome {
        match command {
            Command::Hello => Outcome::Welcome {
                wires: self.by_id.keys().copied().collect(),
            },
            Command::Attach(attach) => match self.control.take_descriptor(connection) {
                Some(fd) => self.attach(*attach, fd),
                None => Outcome::Failed("no descriptor came with the request".to_owned()),
            },
            Command::SetPolicy { wire, policy } => self.set_policy(wire, policy),
            Command::Detach { wire } => {
                if let Some(slot) = self.by_id.get(&wire).copied() {
                    self.end(slot);
                }
                Outcome::Done
            }
            Command::Log { wire, after, max } => match self.wire(wire) {
                Some(wire) => Outcome::Log(wire.log(after, usize::from(max).min(LOG_ENTRIES_MAX))),
                None => Outcome::NoWire,
            },
            Command::Stats { wire } => self.stats(wire),
            Command::SetSecrets { wire, secrets } => self.set_secrets(wire, secrets),
        }
    }

    fn wire(&self, id: WireId) -> Option<&Wire> {
        self.wires.get(*self.by_id.get(&id)?)
    }

    fn attach(&mut self, attach: Attach, fd: OwnedFd) -> Outcome {
        if let Err(error) = check_wire(&fd) {
            return Outcome::Failed(format!("the descriptor is no wire: {error}"));
        }
        self.read_own_addresses();
        let parent = attach.clone_of.and_then(|parent| self.wire(parent));
        let parent = parent.map(Wire::as_parent);
        // A wire that this one replaces gives its place free first. Its connections are asked for before they are ended.
        let old = self
            .by_id
            .remove(&attach.wire)
            .and_then(|slot| self.wires.try_remove(slot));
        let old = old.map(|mut old| {
            let connections = old.connections();
            old.close(&mut self.world);
            (old, connections)
        });
        let Ok(number) = u32::try_from(self.wires.vacant_key()) else {
            return Outcome::Failed("there are too many wires".to_owned());
        };
        let mut wire = Wire::new(attach.wire, number, fd, attach.policy, &mut self.world);
        if let Err(error) = wire.register(&self.world) {
            return Outcome::Failed(format!("cannot wait for the wire: {error}"));
        }
        if let Some(parent) = parent {
            wire.inherit(parent);
        }
        if let Some((old, connections)) = old {
            wire.replace(old, connections);
        }
        let slot = self.wires.insert(wire);
        self.by_id.insert(attach.wire, slot);
        self.wake(slot);
        Outcome::Done
    }

    fn read_own_addresses(&mut self) {
        let now = Instant::now();
        if self.own_at.is_none_or(|at| now > at + OWN_FOR) {
            self.own_at = Some(now);
            if let Some(own) = own::addresses() {
                self.world.ranges.host = own;
            }
        }
    }

    fn set_policy(&mut self, id: WireId, policy: Policy) -> Outcome {
        let Some(slot) = self.by_id.get(&id).copied() else {
            return Outcome::NoWire;
        };
        if let Some(wire) = self.wires.get_mut(slot) {
            wire.set_policy(policy, &mut self.world);
        }
        self.wake(slot);
        Outcome::Done
    }

    fn set_secrets(&mut self, id: WireId, secrets: Vec<Secret>) -> Outcome {
        let Some(slot) = self.by_id.get(&id).copied() else {
            return Outcome::NoWire;
        };
        if !secrets.is_empty() && self.world.terminator.is_none() {
            return Outcome::Failed(NO_AUTHORITY.to_owned());
        }
        let secrets = match SecretSet::new(secrets) {
            Ok(secrets) => secrets,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        if let Some(wire) = self.wires.get_mut(slot) {
            wire.set_secrets(secrets, &mut self.world);
        }
        self.wake(slot);
        Outcome::Done
    }

    fn stats(&self, id: Option<WireId>) -> Outcome {
        let of = |wire: &Wire| WireStats {
            wire: wire.id,
            counters: wire.counters(),
        };
        let all = self
            .by_id
            .values()
            .filter_map(|slot| self.wires.get(*slot))
            .map(of);
        let all: Vec<WireStats> = all.collect();
        let mut totals = self.world.past;
        for wire in &all {
            add(&mut totals, &wire.counters);
        }
        let wires = match id {
            None => all,
            Some(id) if !self.by_id.contains_key(&id) => return Outcome::NoWire,
            Some(id) => all.into_iter().filter(|wire| wire.wire == id).collect(),
        };
        Outcome::Stats(NetStats { totals, wires })
    }
}

fn check_wire(fd: &OwnedFd) -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let kind = sockopt::socket_type(fd)?;
    let family = sockopt::socket_domain(fd)?;
    if kind != SocketType::SEQPACKET || family != AddressFamily::UNIX {
        return Err(Errno::PROTOTYPE);
    }
    rustix::net::getpeername(fd)?;
    rustix::io::ioctl_fionbio(fd, true)
}

fn add(sum: &mut Counters, more: &Counters) {
    sum.tcp_open += more.tcp_open;
    sum.udp_open += more.udp_open;
    sum.tcp_flows += more.tcp_flows;
    sum.udp_flows += more.udp_flows;
    sum.bytes_up += more.bytes_up;
    sum.bytes_down += more.bytes_down;
    sum.denied += more.denied;
    sum.failed += more.failed;
    sum.dns_queries += more.dns_queries;
    sum.frames_up += more.frames_up;
    sum.frames_down += more.frames_down;
    sum.dropped += more.dropped;
}

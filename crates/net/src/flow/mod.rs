//! One TCP connection of a guest.
//!
//! ```text
//!            allowed by address                 connected
//!  SYN ──┬──────────────────────▶ Waiting ─▶ Connecting ─────────────────────▶ Open ─▶ gone
//!        │ by a name it asked for            ▲    │ refused, or too slow: RST
//!        ├──────────────────────▶ Resolving ─┤
//!        │ by a name to be proven            │ resolved again, by us
//!        └──▶ Proving ──────────▶ Resolving ─┘
//!              (accepted, first bytes awaited)
//!
//!  On a port that a secret is for, what is allowed otherwise first comes here:
//!      Listening ─┬─ TLS, for a name of a secret ─▶ Resolving ─▶ … to `secrets`
//!                 └─ anything else ───────────────▶ as above
//! ```
//!
//! The outside is connected to first and the guest's SYN held, so that a guest sees the refusal that there is. Only when a name
//! has to be proven must the guest speak first. The first bytes stay in the receive buffer until they are sent on.

mod pump;
mod serve;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use egress::{Name, NameVerdict, Policy};
use net_proto::Verdict;
use smoltcp::socket::tcp::State;

pub(crate) use serve::Service;

use crate::answers;
use crate::journal::EntryId;
use crate::link::Link;
use crate::packet::Segment;
use crate::poll::Token;
use crate::secrets::Via;
use crate::share::Taken;
use crate::stack::{Buffers, Stack};
use crate::world::World;

/// How long one address of the outside gets to answer.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(12);

/// How many addresses of a name are tried.
pub(crate) const CANDIDATES_MAX: usize = 4;

/// How long a guest may take to say what it wants, or to finish connecting.
pub(crate) const PROOF_PATIENCE: Duration = Duration::from_secs(10);
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);

/// Connections on which nothing moves end after this time, and earlier when one side has finished.
const IDLE_MAX: Duration = Duration::from_hours(2);
const IDLE_HALF_MAX: Duration = Duration::from_mins(10);

/// One that gets secrets has two ends of a pair, and the socket to the outside.
const SOCKETS_WITH_SECRETS: usize = 3;

/// A connection has no business sooner than this after it was looked at.
const LOOK_AGAIN_AT_LEAST: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) guest: SocketAddr,
    /// Where the guest thinks it connects to.
    pub(crate) to: SocketAddr,
}

pub(crate) struct Flow {
    pub(crate) key: Key,
    pub(crate) serial: u64,
    /// Of the socket to the outside.
    token: Token,
    pub(crate) phase: Phase,
    pub(crate) basis: Basis,
    /// Where it is, or is to be, connected to.
    pub(crate) target: Option<SocketAddr>,
    /// Of what it is allowed to reach, or else what its address was known as.
    pub(crate) name: Option<Name>,
    pub(crate) entry: Option<EntryId>,
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Counted among those that have not come about yet.
    pub(crate) young: bool,
    /// In the list of those to be looked at.
    pub(crate) queued: bool,
    pub(crate) timer: Option<Instant>,
    stack: Option<Stack>,
    buffers: Option<Buffers>,
    outside: Option<Outside>,
    /// Its requests get secrets, so it is connected to those who do that.
    pub(crate) is_for_secrets: bool,
    via: Option<Via>,
    /// The SYN, until there is a stack.
    held: Option<Held>,
    /// The first bytes may still turn out to be for another name.
    unproven: Option<Instant>,
    moved: Instant,
    began: Instant,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// Others of this wire are being connected.
    Waiting(VecDeque<IpAddr>),
    Resolving,
    /// To the target, and then to these.
    Connecting(VecDeque<IpAddr>),
    Proving,
    /// It is allowed, and may be for the name of a secret.
    Listening,
    Open,
    /// To the gateway itself.
    Serving(Service),
}

/// What allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    Address,
    Name,
    /// It is to the gateway.
    Gateway,
}

struct Outside {
    socket: OwnedFd,
    readable: bool,
    writable: bool,
    /// The other side has sent its last.
    ended: bool,
    /// The guest's last has been sent.
    shut: bool,
}

struct Held {
    packet: Box<[u8]>,
    /// What a refusal has to acknowledge.
    ack: u32,
}

/// What a wire has that wants another connection accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) connections: usize,
    pub(crate) buffer_bytes: usize,
}

/// What becomes of a connection after a look at it.
#[derive(Debug)]
pub(crate) enum Step {
    Keep,
    /// It has proven its name.
    Proven {
        name: Name,
        tls: bool,
    },
    /// It was listened to, and is for no name.
    Unnamed,
    /// Over, and the log says no more than it did.
    End,
    /// Over, as the log is to say.
    Fail(Verdict, String),
}

impl Flow {
    /// Begins with the guest's SYN, which is held.
    pub(crate) fn new(
        segment: &Segment<'_>,
        basis: Basis,
        phase: Phase,
        token: Token,
        world: &mut World,
    ) -> Self {
        Self {
            key: Key {
                guest: segment.from,
                to: segment.to,
            },
            serial: world.serial(),
            token,
            phase,
            basis,
            target: None,
            name: None,
            entry: None,
            up: 0,
            down: 0,
            young: true,
            queued: false,
            timer: None,
            stack: None,
            buffers: None,
            outside: None,
            is_for_secrets: false,
            via: None,
            held: Some(Held {
                packet: segment.ip.into(),
                ack: segment.seq.wrapping_add(segment.length),
            }),
            unproven: None,
            moved: world.now,
            began: world.now,
        }
    }

    /// The first bytes are to be looked at though it is allowed already.
    pub(crate) fn watch_first_bytes(&mut self, now: Instant) {
        self.unproven = Some(now);
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting(_))
    }

    /// Answers the guest's SYN. False when there is no room for a connection.
    pub(crate) fn accept(&mut self, wire: Holding, link: &mut Link, world: &mut World) -> bool {
        let Some(held) = self.held.take() else { return true };
        let seed = world.seed();
        let taken = Taken {
            of: world.buffer_bytes_max,
            by_all: world.buffer_bytes,
            by_wire: wire.buffer_bytes,
        };
        let stack = taken.one_more(wire.connections).and_then(|buffers| {
            let stack = Stack::listen(self.key.to, buffers, seed, world.clock, world.now)?;
            Some((stack, buffers))
        });
        let Some((mut stack, buffers)) = stack else {
            self.held = Some(held);
            return false;
        };
        world.buffer_bytes += buffers.bytes();
        self.buffers = Some(buffers);
        stack.feed(&held.packet, link, world.clock, world.now);
        self.stack = Some(stack);
        true
    }

    /// Takes a segment of this connection. Before there is a stack, all the guest can do is give up.
    pub(crate) fn feed(&mut self, segment: &Segment<'_>, link: &mut Link, world: &World) -> Step {
        match &mut self.stack {
            Some(stack) => {
                stack.feed(segment.ip, link, world.clock, world.now);
                Step::Keep
            }
            None if segment.reset => Step::End,
            None => Step::Keep,
        }
    }

    /// Connects to the first of these that can be tried.
    ///
    /// # Errors
    /// Why none can be, in words for the log.
    pub(crate) fn connect(
        &mut self,
        mut candidates: VecDeque<IpAddr>,
        world: &mut World,
    ) -> Result<(), String> {
        let mut why = "the name has no address".to_owned();
        self.drop_outside(world);
        while let Some(address) = candidates.pop_front() {
            if world.sockets_left == 0 {
                return Err("this host has no room for another connection".to_owned());
            }
            let target = SocketAddr::new(address, self.key.to.port());
            let socket = crate::outside::tcp(target);
            match socket.and_then(|socket| world.poll.add(&socket, self.token).map(|()| socket)) {
                Ok(socket) => {
                    world.sockets_left -= 1;
                    self.target = Some(target);
                    self.outside = Some(Outside {
                        socket,
                        readable: false,
                        writable: false,
                        ended: false,
                        shut: false,
                    });
                    self.phase = Phase::Connecting(candidates);
                    self.began = world.now;
                    return Ok(());
                }
                Err(error) => why = describe(error),
            }
        }
        Err(why)
    }

    /// Connects to those who put secrets into its requests.
    ///
    /// # Errors
    /// Why it cannot be, in words for the log.
    pub(crate) fn connect_through(
        &mut self,
        socket: OwnedFd,
        via: Via,
        world: &mut World,
    ) -> Result<(), String> {
        let left = world.sockets_left.checked_sub(SOCKETS_WITH_SECRETS);
        let left = left.ok_or("this host has no room for another connection")?;
        world.poll.add(&socket, self.token).map_err(describe)?;
        world.sockets_left = left;
        let port = self.key.to.port();
        let first = via.candidates.first();
        self.target = first.map(|address| SocketAddr::new(*address, port));
        self.via = Some(via);
        self.outside = Some(Outside {
            socket,
            readable: false,
            writable: false,
            ended: false,
            shut: false,
        });
        self.phase = Phase::Connecting(VecDeque::new());
        self.began = world.now;
        Ok(())
    }

    /// How its requests get secrets, if they do.
    pub(crate) fn via(&self) -> Option<&Via> {
        self.via.as_ref()
    }

    /// Why nothing was reached though a connection was there.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.via.as_ref()?.failure.get().map(String::as_str)
    }

    /// The name by which it is allowed, though none was proven.
    pub(crate) fn known_name(&self) -> Option<Name> {
        self.name.clone().filter(|_| self.basis == Basis::Name)
    }

    /// The outside has become ready.
    pub(crate) fn ready(&mut self, readable: bool, writable: bool) {
        if let Some(outside) = &mut self.outside {
            outside.readable |= readable;
            outside.writable |= writable;
        }
    }

    /// Refuses what has not been accepted, or breaks off what has.
    pub(crate) fn reset(&mut self, link: &mut Link, world: &World) {
        if let Some(stack) = &mut self.stack {
            stack.socket().abort();
            stack.flush(link, world.clock, world.now);
        } else if let Some(held) = &self.held {
            answers::refuse(link, self.key.to, self.key.guest, held.ack);
        }
        self.reset_outside();
    }

    /// Breaks off what was connected to.
    pub(crate) fn reset_outside(&self) {
        if let Some(outside) = &self.outside {
            crate::outside::reset_at_close(&outside.socket);
        }
    }

    /// Bytes that its buffers take.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffers.map_or(0, Buffers::bytes)
    }

    /// Gives back what it took from all.
    pub(crate) fn release(&mut self, world: &mut World) {
        self.drop_outside(world);
        if let Some(buffers) = self.buffers.take() {
            world.buffer_bytes -= buffers.bytes();
        }
    }

    fn drop_outside(&mut self, world: &mut World) {
        let count = if self.via.take().is_some() {
            SOCKETS_WITH_SECRETS
        } else {
            1
        };
        if self.outside.take().is_some() {
            world.sockets_left += count;
        }
    }

    /// Where the guest's side of it stands, for a clone that has it too.
    pub(crate) fn inherited(&self) -> Option<Inherited> {
        let stack = self.stack.as_ref()?;
        let sent = stack.sent();
        (stack.state() != State::Listen).then_some(Inherited {
            key: self.key,
            seq: sent.seq,
            ack: sent.ack,
        })
    }

    /// Whether it may go on under another policy.
    pub(crate) fn is_allowed(&self, policy: &Policy, world: &World) -> bool {
        use egress::{Transport, Verdict};
        let (address, port) = (self.key.to.ip(), self.key.to.port());
        match (self.basis, &self.name, &self.phase) {
            (Basis::Gateway, ..) => !policy.is_closed(),
            (Basis::Address, ..) => {
                policy.judge(&world.ranges, address, port, Transport::Tcp) == Verdict::Allowed
            }
            (Basis::Name, _, Phase::Proving) => {
                policy.judge(&world.ranges, address, port, Transport::Tcp) == Verdict::NameNeeded
            }
            (Basis::Name, Some(name), _) => {
                let target = self.target.map(|target| target.ip());
                let resolved = |to| policy.judge_resolved(&world.ranges, to, Some(port)).is_ok();
                matches!(policy.judge_name(name, port), NameVerdict::Allowed { .. })
                    && target.is_none_or(resolved)
                    && self
                        .via()
                        .is_none_or(|via| via.candidates.iter().copied().all(resolved))
            }
            (Basis::Name, None, _) => false,
        }
    }

    /// When it has to be looked at though nothing happens.
    pub(crate) fn next_look(&mut self, link: &Link, world: &World) -> Instant {
        let own = self.deadline();
        let now = world.now;
        // A full wire tells when it has room again.
        let stack = self.stack.as_mut().filter(|_| link.has_room());
        let stack = stack.and_then(|stack| stack.next_at(world.clock, now));
        let soon = now + LOOK_AGAIN_AT_LEAST;
        stack.map_or(own, |at| at.min(own)).max(soon)
    }

    fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Waiting(_) | Phase::Resolving => self.began + HANDSHAKE_PATIENCE,
            Phase::Connecting(_) => self.began + CONNECT_PATIENCE,
            Phase::Proving | Phase::Listening => self.began + PROOF_PATIENCE,
            Phase::Open | Phase::Serving(_) if self.young => self.began + HANDSHAKE_PATIENCE,
            Phase::Open => {
                let half = self
                    .outside
                    .as_ref()
                    .is_some_and(|outside| outside.ended || outside.shut);
                let idle = self.moved + if half { IDLE_HALF_MAX } else { IDLE_MAX };
                self.unproven
                    .map_or(idle, |since| idle.min(since + pump::WATCH_PATIENCE))
            }
            Phase::Serving(_) => self.moved + IDLE_HALF_MAX,
        }
    }
}

/// A connection of a guest's that a clone of it has too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    pub(crate) key: Key,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
}

/// An error of a socket, for the log.
pub(crate) fn describe(error: rustix::io::Errno) -> String {
    std::io::Error::from(error).to_string()
}

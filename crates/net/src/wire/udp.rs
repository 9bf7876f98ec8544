//! Flows of UDP: a socket to the outside for each pair of ends, as long as something moves.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use egress::{Class, Transport};
use net_proto::{DNS_PORT, MTU, Protocol, Verdict};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use slab::Slab;

use super::{Wire, is_gateway};
use crate::answers;
use crate::flow::{Key, describe};
use crate::journal::{EntryId, Journal, Subject};
use crate::link::Link;
use crate::outside;
use crate::packet::Datagram;
use crate::poll::Token;
use crate::timers::Timer;
use crate::world::World;

/// Flows of one wire; a new one takes the place of the one that was idle longest.
const FLOWS_MAX: usize = 512;

/// Flows end after so long without a datagram; those that got no answer earlier.
const IDLE_MAX: Duration = Duration::from_mins(2);
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// Datagrams taken from one socket in one turn: more than one of usual size holds.
const DATAGRAMS_MAX: usize = 512;

/// Longest datagram to a guest: the wire's longest packet less its headers. Longer ones are lost.
const PAYLOAD_BYTES_MAX: usize = MTU as usize - 48;

#[derive(Default)]
pub(super) struct Table {
    flows: Slab<Flow>,
    by_key: HashMap<Key, usize>,
}

struct Flow {
    key: Key,
    socket: OwnedFd,
    entry: EntryId,
    up: u64,
    down: u64,
    moved: Instant,
    timer: Option<Instant>,
}

impl Wire {
    pub(super) fn datagram(&mut self, datagram: &Datagram<'_>, world: &mut World) {
        let to = datagram.to;
        if is_gateway(to.ip()) {
            if to.port() == DNS_PORT {
                self.question_datagram(datagram, world);
            } else {
                self.link.dropped += 1;
            }
            return;
        }
        let key = Key {
            guest: datagram.from,
            to,
        };
        let index = match self.udp.by_key.get(&key) {
            Some(index) => *index,
            None => match self.begin_udp(key, world) {
                Some(index) => index,
                None => return,
            },
        };
        self.send_out(index, datagram.payload, world);
    }

    fn begin_udp(&mut self, key: Key, world: &mut World) -> Option<usize> {
        let (address, port) = (key.to.ip(), key.to.port());
        match self.policy.judge(&world.ranges, address, port, Transport::Udp) {
            egress::Verdict::Allowed => {}
            // A machine that is just there asks its neighbours for this and that.
            _ if world.ranges.class(address) == Class::Unreachable && is_for_many(key.to) => {
                self.link.dropped += 1;
                return None;
            }
            egress::Verdict::Denied(reason) => {
                self.refuse_udp(key, Verdict::Denied, &reason.to_string(), world);
                return None;
            }
            egress::Verdict::NameNeeded => return None,
        }
        if self.udp.flows.len() >= FLOWS_MAX {
            self.udp.end_oldest(self.slot, &mut self.journal, world);
        }
        if world.sockets_left == 0 {
            self.refuse_udp(
                key,
                Verdict::Failed,
                "this host has no room for another flow",
                world,
            );
            return None;
        }
        let index = self.udp.flows.vacant_key();
        let number = u32::try_from(index).ok()?;
        let opened = outside::udp(key.to).and_then(|socket| {
            world.poll.add(&socket, Token::Udp(self.slot, number))?;
            Ok(socket)
        });
        let socket = match opened {
            Ok(socket) => socket,
            Err(error) => {
                self.refuse_udp(key, Verdict::Failed, &describe(error), world);
                return None;
            }
        };
        world.sockets_left -= 1;
        let entry = self.journal.open(self.subject(key, world));
        self.counters.udp_flows += 1;
        let mut flow = Flow {
            key,
            socket,
            entry,
            up: 0,
            down: 0,
            moved: world.now,
            timer: None,
        };
        flow.watch(self.slot, number, world);
        self.udp.flows.insert(flow);
        self.udp.by_key.insert(key, index);
        Some(index)
    }

    fn send_out(&mut self, index: usize, payload: &[u8], world: &mut World) {
        let Some(flow) = self.udp.flows.get_mut(index) else {
            return;
        };
        match send(&flow.socket, payload, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => {
                flow.up += count as u64;
                self.counters.bytes_up += count as u64;
                flow.moved = world.now;
                flow.tell(&mut self.journal);
            }
            // An answer of the network to an earlier datagram; this one was not sent, and the next will be.
            Err(_) => self.link.dropped += 1,
        }
    }

    /// Datagrams have come for a flow.
    pub(crate) fn udp_ready(&mut self, index: u32, buffer: &mut [u8], world: &mut World) {
        let Some(flow) = self.udp.flows.get_mut(index as usize) else {
            return;
        };
        let before = flow.down;
        flow.take_in(&mut self.link, buffer);
        if flow.down != before {
            flow.moved = world.now;
            self.counters.bytes_down += flow.down - before;
            flow.tell(&mut self.journal);
        }
    }

    pub(crate) fn udp_due(&mut self, index: u32, world: &mut World) {
        let Some(flow) = self.udp.flows.get_mut(index as usize) else {
            return;
        };
        flow.timer = None;
        if world.now < flow.end() {
            flow.watch(self.slot, index, world);
        } else {
            self.udp
                .end(index as usize, self.slot, &mut self.journal, None, world);
        }
    }

    pub(super) fn end_forbidden_datagrams(&mut self, world: &mut World) {
        let allowed = |key: &Key| {
            let (address, port) = (key.to.ip(), key.to.port());
            let verdict = self.policy.judge(&world.ranges, address, port, Transport::Udp);
            verdict == egress::Verdict::Allowed
        };
        let forbidden = self.udp.flows.iter().filter(|(_, flow)| !allowed(&flow.key));
        let forbidden: Vec<usize> = forbidden.map(|(index, _)| index).collect();
        for index in forbidden {
            let how = Some((Verdict::Denied, "the policy was changed"));
            self.udp.end(index, self.slot, &mut self.journal, how, world);
        }
    }

    fn refuse_udp(&mut self, key: Key, verdict: Verdict, why: &str, world: &World) {
        match verdict {
            Verdict::Denied => self.counters.denied += 1,
            _ => self.counters.failed += 1,
        }
        let subject = self.subject(key, world);
        self.journal.refuse(subject, verdict, why);
    }

    fn subject(&self, key: Key, world: &World) -> Subject {
        Subject {
            name: self.names.names(key.to.ip(), world.now).next().cloned(),
            address: Some(key.to.ip()),
            port: key.to.port(),
            protocol: Protocol::Udp,
        }
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn clear(&mut self, wire: u32, journal: &mut Journal, world: &mut World) {
        let all: Vec<usize> = self.flows.iter().map(|(index, _)| index).collect();
        for index in all {
            self.end(index, wire, journal, None, world);
        }
    }

    fn end_oldest(&mut self, wire: u32, journal: &mut Journal, world: &mut World) {
        let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.moved);
        if let Some((index, _)) = oldest {
            self.end(index, wire, journal, None, world);
        }
    }

    fn end(
        &mut self,
        index: usize,
        wire: u32,
        journal: &mut Journal,
        how: Option<(Verdict, &str)>,
        world: &mut World,
    ) {
        let Some(mut flow) = self.flows.try_remove(index) else {
            return;
        };
        self.by_key.remove(&flow.key);
        if let Ok(number) = u32::try_from(index) {
            world.timers.set(Timer::Udp(wire, number), &mut flow.timer, None);
        }
        world.sockets_left += 1;
        journal.close(flow.entry, how);
    }
}

impl Flow {
    fn take_in(&mut self, link: &mut Link, buffer: &mut [u8]) {
        for _ in 0..DATAGRAMS_MAX {
            match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, count)) if count <= PAYLOAD_BYTES_MAX && link.has_room() => {
                    let payload = buffer.get(..count).unwrap_or_default();
                    answers::datagram(link, self.key.to, self.key.guest, payload);
                    self.down += count as u64;
                }
                Ok(_) => link.dropped += 1,
                Err(Errno::AGAIN) => return,
                // What the network says of an earlier datagram.
                Err(_) => {}
            }
        }
    }

    fn tell(&self, journal: &mut Journal) {
        journal.change(self.entry, |entry| {
            (entry.bytes_up, entry.bytes_down) = (self.up, self.down);
        });
    }

    fn end(&self) -> Instant {
        let idle = if self.down > 0 { IDLE_MAX } else { UNANSWERED_MAX };
        self.moved + idle
    }

    fn watch(&mut self, wire: u32, index: u32, world: &mut World) {
        let end = self.end();
        world
            .timers
            .set(Timer::Udp(wire, index), &mut self.timer, Some(end));
    }
}

fn is_for_many(to: SocketAddr) -> bool {
    match to {
        SocketAddr::V4(to) => to.ip().is_multicast() || to.ip().octets()[3] == 255,
        SocketAddr::V6(to) => to.ip().is_multicast(),
    }
}

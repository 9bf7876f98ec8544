//! The connections of a wire: beginning, looking after and ending them.

use std::net::IpAddr;

use egress::{Name, NameVerdict, Reason, Transport};
use net_proto::{DNS_PORT, Protocol, Verdict};

use super::{Wire, is_gateway};
use crate::answers;
use crate::dns::{Asked, Query, Want, question_for};
use crate::flow::{Basis, Flow, Holding, Key, Phase, Service, Step};
use crate::journal::Subject;
use crate::packet::Segment;
use crate::poll::Token;
use crate::timers::Timer;
use crate::world::World;

/// Connections of one wire.
pub(super) const FLOWS_MAX: usize = 4096;

/// Of those, not come about yet. A SYN beyond that is dropped, and the guest sends it again.
const YOUNG_MAX: usize = 1024;

/// Of those, being connected to the outside at the same time.
const CONNECTING_MAX: usize = 128;

/// What permits a SYN.
enum Way {
    Address,
    /// The name was asked for before, and nothing that names it is spoken there.
    Known(Name),
    ToBeProven,
    Gateway,
}

impl Wire {
    pub(super) fn segment(&mut self, segment: &Segment<'_>, world: &mut World) {
        let key = Key {
            guest: segment.from,
            to: segment.to,
        };
        if let Some(index) = self.by_key.get(&key).copied() {
            let Some(flow) = self.flows.get_mut(index) else {
                return;
            };
            match flow.feed(segment, &mut self.link, world) {
                Step::Keep => self.look_later(index),
                _ => self.finish(index, None, world),
            }
        } else if segment.syn && segment.ack.is_none() && !segment.reset {
            self.begin(segment, key, world);
        } else {
            answers::reset(&mut self.link, segment);
        }
    }

    fn begin(&mut self, segment: &Segment<'_>, key: Key, world: &mut World) {
        if self.young >= YOUNG_MAX {
            self.link.dropped += 1;
            return;
        }
        let way = match self.way(key, world) {
            Ok(way) if self.flows.len() < FLOWS_MAX => way,
            Ok(_) => {
                let why = format!("more than {FLOWS_MAX} connections at once");
                return self.refuse(segment, Verdict::Failed, &why, world);
            }
            Err(reason) => return self.refuse(segment, Verdict::Denied, &reason.to_string(), world),
        };
        let (basis, phase) = match &way {
            Way::Address => (Basis::Address, Phase::Listening),
            Way::Known(_) => (Basis::Name, Phase::Listening),
            Way::ToBeProven => (Basis::Name, Phase::Proving),
            Way::Gateway => (Basis::Gateway, Phase::Serving(Service::default())),
        };
        let slot = self.flows.vacant_key();
        let Ok(number) = u32::try_from(slot) else { return };
        let token = Token::Flow(self.slot, number);
        let mut flow = Flow::new(segment, basis, phase, token, world);
        if let Way::Known(name) = &way {
            flow.name = Some(name.clone());
        }
        let listen = self.secrets.binds_port(key.to.port());
        let index = self.flows.insert(flow);
        self.by_key.insert(key, index);
        self.young += 1;
        self.counters.tcp_flows += 1;
        match way {
            Way::Address | Way::Known(_) if !listen => self.proceed(index, world),
            _ => self.accept(index, world),
        }
        self.look_later(index);
    }

    fn way(&self, key: Key, world: &World) -> Result<Way, Reason> {
        let (address, port) = (key.to.ip(), key.to.port());
        if is_gateway(address) {
            return if port == DNS_PORT {
                Ok(Way::Gateway)
            } else {
                Err(Reason::NotAllowed)
            };
        }
        match self.policy.judge(&world.ranges, address, port, Transport::Tcp) {
            egress::Verdict::Allowed => Ok(Way::Address),
            egress::Verdict::Denied(reason) => Err(reason),
            egress::Verdict::NameNeeded => {
                let enough = NameVerdict::Allowed { by_resolving: true };
                let mut names = self.names.names(address, world.now);
                let known = names.find(|name| self.policy.judge_name(name, port) == enough);
                Ok(known.map_or(Way::ToBeProven, |name| Way::Known(name.clone())))
            }
        }
    }

    fn refuse(&mut self, segment: &Segment<'_>, verdict: Verdict, why: &str, world: &World) {
        answers::reset(&mut self.link, segment);
        let address = segment.to.ip();
        let subject = Subject {
            name: self.names.names(address, world.now).next().cloned(),
            address: Some(address),
            port: segment.to.port(),
            protocol: Protocol::Tcp,
        };
        self.journal.refuse(subject, verdict, why);
        match verdict {
            Verdict::Denied => self.counters.denied += 1,
            _ => self.counters.failed += 1,
        }
    }

    /// To be looked at before the turn ends.
    pub(super) fn look_later(&mut self, index: usize) {
        if let Some(flow) = self.flows.get_mut(index)
            && !flow.queued
        {
            flow.queued = true;
            self.queue.push_back(index);
        }
    }

    /// The outside of a connection has become ready.
    pub(crate) fn flow_ready(&mut self, index: u32, readable: bool, writable: bool) {
        if let Some(flow) = self.flows.get_mut(index as usize) {
            flow.ready(readable, writable);
            self.look_later(index as usize);
        }
    }

    pub(crate) fn flow_due(&mut self, index: u32) {
        if let Some(flow) = self.flows.get_mut(index as usize) {
            flow.timer = None;
            self.look_later(index as usize);
        }
    }

    pub(super) fn look_at_queue(&mut self, world: &mut World) {
        while let Some(index) = self.queue.pop_front() {
            self.look(index, world);
        }
    }

    fn look(&mut self, index: usize, world: &mut World) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.queued = false;
        let was_connecting = flow.is_connecting();
        let (up, down) = (flow.up, flow.down);
        let step = flow.step(&self.policy, &mut self.link, world);
        self.counters.bytes_up += flow.up - up;
        self.counters.bytes_down += flow.down - down;
        if let Some(entry) = flow.entry
            && (flow.up, flow.down) != (up, down)
        {
            let (up, down) = (flow.up, flow.down);
            self.journal
                .change(entry, |entry| (entry.bytes_up, entry.bytes_down) = (up, down));
        }
        if was_connecting && !flow.is_connecting() {
            self.connecting -= 1;
            if matches!(step, Step::Keep) {
                self.accept(index, world);
            }
            self.connect_waiting(world);
        }
        match step {
            Step::Keep => self.settle(index, world),
            Step::Proven { name, tls } => self.proven(index, name, tls, world),
            Step::Unnamed => self.proceed(index, world),
            Step::End => self.finish(index, None, world),
            Step::Fail(verdict, why) => self.fail(index, verdict, &why, world),
        }
    }

    /// Sets the next look at a connection that goes on.
    fn settle(&mut self, index: usize, world: &mut World) {
        let question = match self.flows.get_mut(index).map(|flow| &mut flow.phase) {
            Some(Phase::Serving(service)) => service.take_question(),
            _ => None,
        };
        if let Some(question) = question {
            self.ask_for_stream(index, question, world);
        }
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        if flow.young && flow.is_settled() {
            flow.young = false;
            self.young -= 1;
        }
        if !self.link.has_room() {
            self.stalled.push(index);
        }
        let at = flow.next_look(&self.link, world);
        if let Ok(number) = u32::try_from(index) {
            let timer = Timer::Flow(self.slot, number);
            world.timers.set(timer, &mut flow.timer, Some(at));
        }
    }

    fn accept(&mut self, index: usize, world: &mut World) {
        let holding = Holding {
            connections: self.flows.len(),
            buffer_bytes: self.buffer_bytes,
        };
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let before = flow.buffer_bytes();
        if flow.accept(holding, &mut self.link, world) {
            self.buffer_bytes += flow.buffer_bytes() - before;
            self.look_later(index);
        } else {
            let why = "no memory is left for another connection of this sandbox";
            self.fail(index, Verdict::Failed, why, world);
        }
    }

    fn proven(&mut self, index: usize, name: Name, tls: bool, world: &mut World) {
        let Some(flow) = self.flows.get(index) else { return };
        let is_for_secrets = tls && self.is_for_secrets(&name, flow.key.to.port());
        if matches!(flow.phase, Phase::Listening) && !is_for_secrets {
            return self.proceed(index, world);
        }
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.is_for_secrets = is_for_secrets;
        flow.basis = Basis::Name;
        match self.policy.judge_name(&name, flow.key.to.port()) {
            NameVerdict::Allowed { .. } => self.resolve(index, name, world),
            NameVerdict::Denied(reason) => {
                if let Some(flow) = self.flows.get_mut(index) {
                    flow.name = Some(name);
                }
                self.fail(index, Verdict::Denied, &reason.to_string(), world);
            }
        }
    }

    /// Asks for the addresses of a name that a connection is allowed to reach.
    pub(super) fn resolve(&mut self, index: usize, name: Name, world: &mut World) {
        self.log_open(index, Some(name.clone()));
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.phase = Phase::Resolving;
        let want = Want::Connect {
            flow: u32::try_from(index).unwrap_or(u32::MAX),
            serial: flow.serial,
        };
        let v6 = flow.key.to.is_ipv6();
        let asked = question_for(&name, v6).is_some_and(|query| self.ask(query, want, world));
        if asked {
            self.look_later(index);
        } else {
            self.fail(
                index,
                Verdict::Failed,
                "too many questions about names at once",
                world,
            );
        }
    }

    fn ask_for_stream(&mut self, index: usize, query: Query, world: &mut World) {
        let Some(flow) = self.flows.get(index) else { return };
        let want = Want::Stream {
            flow: u32::try_from(index).unwrap_or(u32::MAX),
            serial: flow.serial,
        };
        match self.question_of_guest(query, want, world) {
            Ok(()) => {}
            Err(message) => self.answer_stream(index, message),
        }
    }

    pub(super) fn port_of(&self, index: usize) -> Option<u16> {
        self.flows.get(index).map(|flow| flow.key.to.port())
    }

    pub(super) fn answer_stream(&mut self, index: usize, message: Option<Vec<u8>>) {
        if let Some(Phase::Serving(service)) = self.flows.get_mut(index).map(|flow| &mut flow.phase) {
            service.answer(message);
            self.look_later(index);
        }
    }

    /// The flow of a question, if it is still that.
    pub(super) fn flow_of(&self, index: u32, serial: u64) -> Option<usize> {
        let flow = self.flows.get(index as usize)?;
        (flow.serial == serial).then_some(index as usize)
    }

    /// A name that a connection is for has, or has not, been resolved.
    pub(super) fn resolved(
        &mut self,
        index: usize,
        addresses: &[IpAddr],
        failure: Option<Reason>,
        world: &mut World,
    ) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        if !matches!(flow.phase, Phase::Resolving) {
            return;
        }
        if addresses.is_empty() {
            let (verdict, why) = match failure {
                Some(reason) => (
                    Verdict::Denied,
                    format!("the name leads to an address that is not allowed: {reason}"),
                ),
                None => (Verdict::Failed, "the name has no address".to_owned()),
            };
            return self.fail(index, verdict, &why, world);
        }
        flow.phase = Phase::Waiting(addresses.iter().copied().collect());
        self.waiting.push_back((index, flow.serial));
        self.connect_waiting(world);
    }

    /// Connects those that wait, as many as may be at once.
    pub(super) fn connect_waiting(&mut self, world: &mut World) {
        while self.connecting < CONNECTING_MAX {
            let Some((index, serial)) = self.waiting.pop_front() else {
                return;
            };
            let Some(flow) = self.flows.get_mut(index).filter(|flow| flow.serial == serial) else {
                continue;
            };
            let Phase::Waiting(candidates) = &mut flow.phase else {
                continue;
            };
            let candidates = std::mem::take(candidates);
            match self.connect(index, candidates, world) {
                Ok(()) => {
                    self.connecting += 1;
                    let Some(flow) = self.flows.get(index) else {
                        continue;
                    };
                    let address = flow.target.map(|target| target.ip());
                    if let Some(entry) = flow.entry {
                        self.journal.change(entry, |entry| entry.address = address);
                    }
                    self.look_later(index);
                }
                Err(why) => self.fail(index, Verdict::Failed, &why, world),
            }
        }
    }

    pub(super) fn log_open(&mut self, index: usize, name: Option<Name>) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.name.clone_from(&name);
        let address = (flow.basis == Basis::Address).then_some(flow.key.to.ip());
        let subject = Subject {
            name,
            address,
            port: flow.key.to.port(),
            protocol: Protocol::Tcp,
        };
        flow.entry = Some(self.journal.open(subject));
    }

    /// Ends a connection that cannot go on; the guest gets a reset.
    pub(super) fn fail(&mut self, index: usize, verdict: Verdict, why: &str, world: &mut World) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.reset(&mut self.link, world);
        match verdict {
            Verdict::Denied => self.counters.denied += 1,
            Verdict::Failed => self.counters.failed += 1,
            Verdict::Allowed => {}
        }
        self.finish(index, Some((verdict, why)), world);
    }

    fn finish(&mut self, index: usize, how: Option<(Verdict, &str)>, world: &mut World) {
        let Some(mut flow) = self.flows.try_remove(index) else {
            return;
        };
        self.by_key.remove(&flow.key);
        self.young -= usize::from(flow.young);
        if let Ok(number) = u32::try_from(index) {
            world
                .timers
                .set(Timer::Flow(self.slot, number), &mut flow.timer, None);
        }
        let failure = flow.failure().filter(|_| how.is_none());
        self.counters.failed += u64::from(failure.is_some());
        let how = how.or(failure.map(|why| (Verdict::Failed, why)));
        match (flow.entry, how) {
            (Some(entry), how) => self.journal.close(entry, how),
            (None, Some((verdict, why))) if flow.basis != Basis::Gateway => {
                let subject = Subject {
                    name: flow.name.clone(),
                    address: Some(flow.key.to.ip()),
                    port: flow.key.to.port(),
                    protocol: Protocol::Tcp,
                };
                self.journal.refuse(subject, verdict, why);
            }
            (None, _) => {}
        }
        let connecting = flow.is_connecting();
        self.buffer_bytes -= flow.buffer_bytes();
        flow.release(world);
        if connecting {
            self.connecting -= 1;
            self.connect_waiting(world);
        }
    }

    pub(super) fn end_forbidden_flows(&mut self, world: &mut World) {
        let forbidden: Vec<usize> = self
            .flows
            .iter()
            .filter(|(_, flow)| !flow.is_allowed(&self.policy, world))
            .map(|(index, _)| index)
            .collect();
        for index in forbidden {
            self.fail(index, Verdict::Denied, "the policy was changed", world);
        }
    }

    pub(super) fn end_all_flows(&mut self, world: &mut World) {
        self.waiting.clear();
        let all: Vec<usize> = self.flows.iter().map(|(index, _)| index).collect();
        for index in all {
            if let Some(flow) = self.flows.get_mut(index) {
                flow.reset_outside();
            }
            self.finish(index, None, world);
        }
    }

    pub(super) fn ask(&mut self, query: Query, want: Want, world: &mut World) -> bool {
        if self.questions >= crate::dns::QUESTIONS_OF_WIRE_MAX {
            return false;
        }
        self.questions += 1;
        let asked = Asked {
            wire: self.slot,
            wire_serial: self.serial,
            want,
        };
        world
            .resolver
            .ask(asked, query, &world.poll, &mut world.timers, world.now);
        true
    }
}

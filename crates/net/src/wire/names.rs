//! Questions of a guest to the gateway, and the answers.

use std::net::IpAddr;
use std::time::Duration;

use egress::{Policy, Reason};
use net_proto::{DNS_PORT, MTU, Protocol, Verdict};

use super::Wire;
use crate::answers;
use crate::dns::{ANSWER_BYTES_MAX, Answer, Answered, Query, Want};
use crate::flow::CANDIDATES_MAX;
use crate::journal::Subject;
use crate::packet::Datagram;
use crate::world::World;

/// Longest answer over UDP, whatever the guest says it takes: the wire's longest packet less its headers.
const DATAGRAM_BYTES_MAX: usize = MTU as usize - 48;

impl Wire {
    pub(super) fn question_datagram(&mut self, datagram: &Datagram<'_>, world: &mut World) {
        let Some(query) = Query::read(datagram.payload) else {
            self.link.dropped += 1;
            return;
        };
        let want = Want::Datagram {
            from: datagram.from,
            to: datagram.to,
        };
        if let Err(Some(message)) = self.question_of_guest(query, want, world) {
            answers::datagram(&mut self.link, datagram.to, datagram.from, &message);
        }
    }

    /// Asks on behalf of the guest, or says what to answer at once.
    pub(super) fn question_of_guest(
        &mut self,
        query: Query,
        want: Want,
        world: &mut World,
    ) -> Result<(), Option<Vec<u8>>> {
        self.counters.dns_queries += 1;
        let allowed = match &query.name {
            Some(name) => self.policy.may_resolve(name),
            None => self.policy == Policy::Open,
        };
        if !allowed {
            self.log_question(&query, Reason::NotAllowed);
            return Err(query.refusal());
        }
        let busy = query.failure();
        if self.ask(query, want, world) {
            Ok(())
        } else {
            Err(busy)
        }
    }

    /// A question of this wire has come to its end.
    pub(crate) fn answered(&mut self, answered: Answered, world: &mut World) {
        self.questions = self.questions.saturating_sub(1);
        let Answered { asked, query, answer } = answered;
        match asked.want {
            Want::Datagram { from, to } => {
                let max = query.payload_max().min(DATAGRAM_BYTES_MAX);
                if let Some(message) = self.message_for_guest(&query, answer, max, world) {
                    answers::datagram(&mut self.link, to, from, &message);
                }
            }
            Want::Stream { flow, serial } => {
                let message = self.message_for_guest(&query, answer, ANSWER_BYTES_MAX, world);
                if let Some(index) = self.flow_of(flow, serial) {
                    self.answer_stream(index, message);
                }
            }
            Want::Connect { flow, serial } => {
                let Some(index) = self.flow_of(flow, serial) else {
                    return;
                };
                let port = self.port_of(index);
                let (mut good, mut bad) = (Vec::new(), None);
                for (address, _) in answer.iter().flat_map(Answer::addresses) {
                    match self.policy.judge_resolved(&world.ranges, address, port) {
                        Ok(()) if good.len() < CANDIDATES_MAX => good.push(address),
                        Ok(()) => {}
                        Err(reason) => bad = Some(reason),
                    }
                }
                self.resolved(index, &good, bad, world);
            }
        }
    }

    /// What the guest is told, and what is remembered of it.
    fn message_for_guest(
        &mut self,
        query: &Query,
        answer: Option<Answer>,
        max: usize,
        world: &World,
    ) -> Option<Vec<u8>> {
        let Some(mut answer) = answer else {
            return query.failure();
        };
        let (policy, ranges) = (&self.policy, &world.ranges);
        if let Policy::List(_) = policy {
            let judge = |address: IpAddr| policy.judge_resolved(ranges, address, None);
            let first = answer.addresses().find_map(|(address, _)| judge(address).err());
            let none_left = answer.retain(|address| judge(address).is_ok());
            if let Some(reason) = first.filter(|_| none_left) {
                self.log_question(query, reason);
                return query.refusal();
            }
        }
        if let Some(name) = &query.name {
            let addresses: Vec<(IpAddr, Duration)> = answer.addresses().collect();
            for (address, ttl) in addresses {
                self.names.learn(name, address, ttl, world.now);
            }
        }
        answer.for_query(query, max)
    }

    fn log_question(&mut self, query: &Query, reason: Reason) {
        self.counters.denied += 1;
        let subject = Subject {
            name: query.name.clone(),
            address: None,
            port: DNS_PORT,
            protocol: Protocol::Dns,
        };
        self.journal.refuse(subject, Verdict::Denied, &reason.to_string());
    }
}

//! The network process, and what goes through it.

use std::sync::{Mutex, PoisonError};

use net_proto::Counters;
use prometheus_client::metrics::counter::Counter;

use super::families::Families;

const DIRECTIONS: [&str; 2] = ["sent", "received"];
const TRANSPORTS: [&str; 2] = ["tcp", "udp"];
const REFUSALS: [&str; 3] = ["denied", "failed", "dropped"];

#[derive(Debug)]
pub(crate) struct NetworkMetrics {
    restarts: Counter,
    bytes: Vec<Counter>,
    flows: Vec<Counter>,
    refusals: Vec<Counter>,
    questions: Counter,
    /// What has been counted of the process that runs.
    counted: Mutex<Counters>,
}

impl NetworkMetrics {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        Self {
            restarts: families.counter(
                "netd_restarts",
                "Times the network process ended, or had to be, and was started again",
            ),
            bytes: families.counters(
                "network_bytes",
                "Content that sandboxes have sent out and received",
                ("direction", &DIRECTIONS),
            ),
            flows: families.counters(
                "network_flows",
                "Connections and exchanges that sandboxes have begun",
                ("transport", &TRANSPORTS),
            ),
            refusals: families.counters(
                "network_refusals",
                "What sandboxes did not reach: denied by what they may, failed on the way, or dropped as a packet",
                ("verdict", &REFUSALS),
            ),
            questions: families.counter("network_dns_queries", "Names that sandboxes have asked for"),
            counted: Mutex::default(),
        }
    }

    /// The process has ended, and the next one counts from nothing.
    pub(crate) fn ended(&self) {
        self.restarts.inc();
        *self.counted() = Counters::default();
    }

    /// What the process has counted by now.
    pub(crate) fn count(&self, now: &Counters) {
        let before = std::mem::replace(&mut *self.counted(), *now);
        let add = |counter: Option<&Counter>, now: u64, before: u64| {
            counter.map(|counter| counter.inc_by(now.saturating_sub(before)));
        };
        add(self.bytes.first(), now.bytes_up, before.bytes_up);
        add(self.bytes.last(), now.bytes_down, before.bytes_down);
        add(self.flows.first(), now.tcp_flows, before.tcp_flows);
        add(self.flows.last(), now.udp_flows, before.udp_flows);
        add(self.refusals.first(), now.denied, before.denied);
        add(self.refusals.get(1), now.failed, before.failed);
        add(self.refusals.last(), now.dropped, before.dropped);
        add(Some(&self.questions), now.dns_queries, before.dns_queries);
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counters> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! One wire as it is to be, and as far as the network process has it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use egress::Policy;
use net_proto::{Counters, Secret, WireId};
use tokio::sync::oneshot;

use super::charge::Charge;
use super::errand::{Errand, What};

/// Where a wire's other end is.
#[derive(Debug)]
pub(super) enum Line {
    /// Here: no VM has its end yet.
    Stock(OwnedFd),
    /// Here, on its way: a VM has its end.
    Ready(OwnedFd),
    /// With the network process.
    Attached,
    /// Gone with the process that had it, and its VM needs a new one.
    Lost,
    /// The network process does not take it. Nothing is tried until there is another process.
    Refused,
}

/// Something the network process is to have of a wire. Revisions count up; 0 is what every wire begins with.
#[derive(Debug)]
pub(super) struct Wish<T> {
    pub(super) value: T,
    wanted: u64,
    sent: u64,
    held: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: Line,
    pub(super) policy: Wish<Policy>,
    pub(super) secrets: Wish<Arc<[Secret]>>,
    /// Whose connections its guest believes to have.
    pub(super) clone_of: Option<WireId>,
    pub(super) charge: Charge,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    policy: u64,
    secrets: u64,
    /// True when both hold.
    told: oneshot::Sender<bool>,
}

impl<T> Wish<T> {
    fn new(value: T) -> Self {
        Self {
            value,
            wanted: 1,
            sent: 0,
            held: 0,
        }
    }

    pub(super) fn set(&mut self, value: T) {
        self.value = value;
        self.wanted += 1;
    }

    fn is_due(&self) -> bool {
        self.sent < self.wanted
    }

    fn send(&mut self) -> u64 {
        self.sent = self.wanted;
        self.wanted
    }

    fn forget(&mut self) {
        (self.sent, self.held) = (0, 0);
    }

    fn hold(&mut self, revision: u64) {
        self.held = self.held.max(revision);
    }
}

impl Entry {
    pub(super) fn new(line: Line, policy: Policy) -> Self {
        Self {
            line,
            policy: Wish::new(policy),
            secrets: Wish::new(Arc::default()),
            clone_of: None,
            charge: Charge::default(),
            waiting: Vec::new(),
        }
    }

    /// The next thing to tell the network process, as if it had been told when this returns.
    pub(super) fn next(&mut self, wire: WireId) -> Option<Errand> {
        if matches!(self.line, Line::Ready(_)) {
            let Line::Ready(socket) = std::mem::replace(&mut self.line, Line::Attached) else {
                return None;
            };
            // A process that does not know the parent takes over nothing, so secrets are told in any case.
            let what = What::Attach {
                revision: self.policy.send(),
                policy: self.policy.value.clone(),
                clone_of: self.clone_of.take(),
                socket,
            };
            return Some(Errand { wire, what });
        }
        if !matches!(self.line, Line::Attached) {
            return None;
        }
        let what = if self.policy.is_due() {
            What::SetPolicy {
                revision: self.policy.send(),
                policy: self.policy.value.clone(),
            }
        } else if self.secrets.is_due() {
            let revision = self.secrets.send();
            if revision == 1 && self.secrets.value.is_empty() {
                self.secrets.hold(revision);
                self.tell_waiting();
                return None;
            }
            What::SetSecrets {
                revision,
                secrets: self.secrets.value.to_vec(),
            }
        } else {
            return None;
        };
        Some(Errand { wire, what })
    }

    pub(super) fn policy_holds(&mut self, revision: u64) {
        self.policy.hold(revision);
        self.tell_waiting();
    }

    pub(super) fn secrets_hold(&mut self, revision: u64) {
        self.secrets.hold(revision);
        self.tell_waiting();
    }

    /// Whether all that is wanted holds.
    fn holds(&self) -> bool {
        self.policy.held >= self.policy.wanted && self.secrets.held >= self.secrets.wanted
    }

    /// Says true when all that is wanted now holds, and false when it turns out that the wire leads nowhere, so that
    /// nothing else holds either. `None` when that is so already.
    pub(super) fn wait(&mut self) -> Option<oneshot::Receiver<bool>> {
        if self.holds() || !self.may_lead_somewhere() {
            return None;
        }
        let (told, waits) = oneshot::channel();
        self.waiting.push(Waiting {
            policy: self.policy.wanted,
            secrets: self.secrets.wanted,
            told,
        });
        Some(waits)
    }

    pub(super) fn may_lead_somewhere(&self) -> bool {
        matches!(self.line, Line::Ready(_) | Line::Attached)
    }

    /// The network process that had it is gone, or another one is there that does not have it.
    pub(super) fn lose(&mut self) {
        if matches!(self.line, Line::Attached | Line::Refused) {
            self.line = Line::Lost;
        }
        self.policy.forget();
        self.secrets.forget();
        self.charge.begin_anew();
        self.dismiss_waiting();
    }

    pub(super) fn refuse(&mut self) {
        self.line = Line::Refused;
        self.dismiss_waiting();
    }

    /// All is to be told once more: what was sent over a connection that broke may not have come.
    pub(super) fn doubt(&mut self) {
        self.policy.forget();
        self.secrets.forget();
    }

    /// Those who wait wait for nothing.
    pub(super) fn dismiss_waiting(&mut self) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.told.send(false);
        }
    }

    /// Counts what has gone over it.
    pub(super) fn count(&mut self, counters: &Counters) {
        self.charge.count(counters);
    }

    fn tell_waiting(&mut self) {
        let (policy, secrets) = (self.policy.held, self.secrets.held);
        let done = |waiting: &mut Waiting| waiting.policy <= policy && waiting.secrets <= secrets;
        for waiting in self.waiting.extract_if(.., done) {
            let _ = waiting.told.send(true);
        }
    }
}

//! What a clone's wire has of its parent's, and a wire of the one it replaces.

use std::collections::VecDeque;

use super::Wire;
use crate::answers;
use crate::flow::{Flow, Inherited};
use crate::memory::NameMemory;
use crate::secrets::SecretSet;

/// A sequence number so far back is out of every window, wherever the guest stands by now: of what the clone has
/// received, the parent may have sent more since.
const FAR_BACK: u32 = 1 << 29;

/// What a clone takes over.
pub(crate) struct Parent {
    names: NameMemory,
    secrets: SecretSet,
    connections: VecDeque<Inherited>,
}

impl Wire {
    pub(crate) fn as_parent(&self) -> Parent {
        Parent {
            names: self.names.clone(),
            secrets: self.secrets.clone(),
            connections: self.connections(),
        }
    }

    /// Its guest is a clone of the other's guest: it has the other's connections, which are not its own.
    pub(crate) fn inherit(&mut self, parent: Parent) {
        let Parent {
            names,
            secrets,
            connections,
        } = parent;
        self.names = names;
        self.secrets = secrets;
        self.inherited = connections;
    }

    /// Its guest is the other's, on a new socket: log, counts, names and secrets go on, connections do not.
    pub(crate) fn replace(&mut self, old: Self, connections: VecDeque<Inherited>) {
        self.inherited = connections;
        self.counters = old.counters();
        (self.counters.tcp_open, self.counters.udp_open) = (0, 0);
        self.names = old.names;
        self.secrets = old.secrets;
        self.journal = old.journal;
    }

    pub(crate) fn connections(&self) -> VecDeque<Inherited> {
        let own = self.flows.iter().filter_map(|(_, flow)| Flow::inherited(flow));
        own.chain(self.inherited.iter().copied()).collect()
    }

    /// Asks the guest about connections it has and we have not: its answer is one to an unknown connection, and gets a
    /// reset with the number that it takes.
    pub(super) fn probe_inherited(&mut self) {
        while self.link.has_room() && !self.policy.is_closed() {
            let Some(Inherited { key, seq, ack }) = self.inherited.pop_front() else {
                return;
            };
            if !self.by_key.contains_key(&key) {
                answers::probe(&mut self.link, key.to, key.guest, seq.wrapping_sub(FAR_BACK), ack);
            }
        }
    }
}

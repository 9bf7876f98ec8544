//! Connections in which a secret takes the place of a placeholder: which they are, and what becomes of them.

use std::collections::VecDeque;
use std::net::IpAddr;

use egress::NameVerdict;
use net_proto::Verdict;

use super::Wire;
use crate::flow::Phase;
use crate::secrets::{Destination, SecretSet};
use crate::world::World;

/// What the log says of one that had a secret which is gone.
const CHANGED: &str = "the secrets were changed";

impl Wire {
    /// From now on. Connections in which one could be sent that is no longer there, or is another, are reset; the others
    /// get the new ones.
    pub(crate) fn set_secrets(&mut self, secrets: SecretSet, world: &mut World) {
        self.secrets = secrets;
        let mut stale = Vec::new();
        for (index, flow) in &self.flows {
            let (Some(via), Some(name)) = (flow.via(), &flow.name) else {
                continue;
            };
            let bound = self.secrets.bound_to(name, flow.key.to.port());
            if !via.bound.grow(bound) {
                stale.push(index);
            }
        }
        for index in stale {
            self.fail(index, Verdict::Denied, CHANGED, world);
        }
    }

    /// The first bytes are those of TLS and say a name: is it one that a secret is for and that may be reached?
    pub(super) fn is_for_secrets(&self, name: &egress::Name, port: u16) -> bool {
        let allowed = matches!(self.policy.judge_name(name, port), NameVerdict::Allowed { .. });
        allowed && !self.secrets.bound_to(name, port).is_empty()
    }

    /// Goes on with a connection that is allowed as it is, without secrets.
    pub(super) fn proceed(&mut self, index: usize, world: &mut World) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        if let Some(name) = flow.known_name() {
            flow.watch_first_bytes(world.now);
            return self.resolve(index, name, world);
        }
        let address = flow.key.to.ip();
        let serial = flow.serial;
        flow.phase = Phase::Waiting(VecDeque::from([address]));
        let name = self.names.names(address, world.now).next().cloned();
        self.log_open(index, name);
        self.waiting.push_back((index, serial));
        self.connect_waiting(world);
        self.look_later(index);
    }

    /// Connects, or has the thread for secrets connect.
    ///
    /// # Errors
    /// Why it cannot be, in words for the log.
    pub(super) fn connect(
        &mut self,
        index: usize,
        candidates: VecDeque<IpAddr>,
        world: &mut World,
    ) -> Result<(), String> {
        let Some(flow) = self.flows.get_mut(index) else {
            return Ok(());
        };
        if !flow.is_for_secrets {
            return flow.connect(candidates, world);
        }
        let (Some(name), Some(terminator)) = (&flow.name, &world.terminator) else {
            return Err(CHANGED.to_owned());
        };
        let port = flow.key.to.port();
        let bound = self.secrets.bound_to(name, port);
        if bound.is_empty() {
            return Err(CHANGED.to_owned());
        }
        let to = Destination {
            name: name.clone(),
            port,
            candidates: candidates.into(),
            bound,
        };
        let (socket, via) = terminator.connect(to, &self.places)?;
        flow.connect_through(socket, via, world)
    }
}

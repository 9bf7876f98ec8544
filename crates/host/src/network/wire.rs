//! The wire of one VM.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use egress::Policy;
use net_proto::{Secret, WireId};
use tokio::time::timeout;

use super::entry::Line;
use super::pair::pair;
use super::wires::Wires;
use crate::tenants::Account;

/// Belongs to whoever has the VM. Dropping it ends the wire, however many links to it there are.
#[derive(Debug)]
pub(crate) struct Wire {
    link: WireLink,
}

/// What everybody who holds a sandbox can see of its wire and do to it. Of a wire that has ended, nothing.
#[derive(Clone, Debug)]
pub(crate) struct WireLink {
    wire: WireId,
    wires: Arc<Wires>,
}

/// Whether what is wanted of a wire is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InForce {
    Yes,
    /// The wire leads nowhere, so nothing else is reached by it.
    Nothing,
    /// The network process has not said so in time, and may still do what was wanted before.
    Unsure,
}

impl Wire {
    pub(super) fn new(wire: WireId, wires: &Arc<Wires>) -> Self {
        Self {
            link: WireLink {
                wire,
                wires: Arc::clone(wires),
            },
        }
    }

    pub(crate) fn link(&self) -> &WireLink {
        &self.link
    }

    /// A VM has the other end: the network process serves it from now on. Of a VM that was cloned from one whose guest
    /// did not stand still from its beginning on, `parent` is its wire: what that may reach, this may, too.
    pub(crate) fn begin(&self, parent: Option<&WireLink>) {
        let WireLink { wire, wires } = &self.link;
        let heritage = parent.and_then(|parent| {
            let taken = |entry: &mut super::entry::Entry| {
                (entry.policy.value.clone(), Arc::clone(&entry.secrets.value))
            };
            wires.look(parent.wire, taken)
        });
        wires.change(*wire, |entry| {
            if let Some((policy, secrets)) = heritage {
                entry.clone_of = parent.map(|parent| parent.wire);
                entry.policy.set(policy);
                if !secrets.is_empty() {
                    entry.secrets.set(secrets);
                }
            }
            if matches!(entry.line, Line::Stock(_))
                && let Line::Stock(socket) = std::mem::replace(&mut entry.line, Line::Lost)
            {
                entry.line = Line::Ready(socket);
            }
        });
    }

    /// Another pair in the place of the one that was lost: the end for the VM, and what becomes of it when the VM
    /// has it. Until then nobody is told.
    pub(crate) fn renew(&self) -> io::Result<OwnedFd> {
        let (for_vm, for_network) = pair()?;
        let WireLink { wire, wires } = &self.link;
        wires.change(*wire, |entry| entry.line = Line::Stock(for_network));
        Ok(for_vm)
    }

    /// Its VM does not take one.
    pub(crate) fn give_up(&self) {
        let WireLink { wire, wires } = &self.link;
        wires.change(*wire, super::entry::Entry::refuse);
    }

    /// Whether its VM needs a new one.
    pub(crate) fn is_lost(&self) -> bool {
        let WireLink { wire, wires } = &self.link;
        let lost = wires.look(*wire, |entry| matches!(entry.line, Line::Lost));
        lost.unwrap_or(false)
    }

    /// Waits until its VM needs a new one. Safe to drop and call again.
    pub(crate) async fn lost(&self) {
        let mut losses = self.link.wires.losses();
        while !self.is_lost() {
            // The sender lives in what is borrowed.
            if losses.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.link.wires.remove(self.link.wire);
    }
}

impl WireLink {
    /// Of a VM without a wire: nothing can be seen of it, and changing it changes nothing.
    pub(crate) fn nowhere(wires: &Arc<Wires>) -> Self {
        Self {
            wire: 0,
            wires: Arc::clone(wires),
        }
    }

    pub(crate) fn id(&self) -> WireId {
        self.wire
    }

    /// What it may reach. `None` once it has ended.
    pub(crate) fn policy(&self) -> Option<Policy> {
        self.wires.look(self.wire, |entry| entry.policy.value.clone())
    }

    /// It may reach this from now on. Does not wait.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.wires.change(self.wire, |entry| {
            if entry.policy.value != policy {
                entry.policy.set(policy);
            }
        });
    }

    /// These are put in the place of their placeholders from now on. Does not wait.
    pub(crate) fn set_secrets(&self, secrets: Arc<[Secret]>) {
        self.wires.change(self.wire, |entry| {
            if entry.secrets.value != secrets {
                entry.secrets.set(secrets);
            }
        });
    }

    /// What goes over it is this account's.
    pub(crate) fn charge(&self, account: Arc<Account>) {
        self.wires.look(self.wire, |entry| entry.charge.to(account));
    }

    /// Waits, at most so long, until what is wanted of it holds.
    pub(crate) async fn in_force(&self, bound: Duration) -> InForce {
        if self.wires.is_dead() {
            return InForce::Nothing;
        }
        let waits = self.wires.look(self.wire, |entry| {
            let somewhere = entry.may_lead_somewhere();
            entry.wait().ok_or(somewhere)
        });
        match waits {
            None | Some(Err(false)) => InForce::Nothing,
            Some(Err(true)) => InForce::Yes,
            Some(Ok(waits)) => match timeout(bound, waits).await {
                Ok(Ok(true)) => InForce::Yes,
                Ok(Ok(false) | Err(_)) => InForce::Nothing,
                Err(_) => InForce::Unsure,
            },
        }
    }
}

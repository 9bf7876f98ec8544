//! All wires of this host: what is wanted of them, and what the network process has been told.
//!
//! ```text
//!             a VM has it       told                  its process is gone
//!  Stock ──────────▶ Ready ──────────▶ Attached ──────────────────────────▶ Lost
//!                      ▲                  └─ not taken ─▶ Refused ───────────▶ │
//!                      └──────────────── a new pair, the VM has it ◀───────────┘
//! ```
//!
//! Nothing here waits or fails for want of room: what is to be told is a set of wires, not a queue of messages, so a wire
//! that changes a hundred times while nobody listens is told of once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use egress::Policy;
use net_proto::{NetStats, WireId};
use tokio::sync::{Notify, watch};

use super::charge::Charge;
use super::entry::{Entry, Line};
use super::errand::{About, Errand, What};
use super::pair::pair;
use super::wire::Wire;
use crate::clock;

/// Wires that may be made in a millisecond without meeting the numbers of the daemon that comes next.
const PER_MILLISECOND: u64 = 1000;

#[derive(Debug)]
pub(crate) struct Wires {
    state: Mutex<State>,
    /// There is something to tell.
    work: Notify,
    /// Counts how often wires were lost.
    losses: watch::Sender<u64>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    wires: BTreeMap<WireId, Entry>,
    /// Those of which something is to be told.
    due: BTreeSet<WireId>,
    /// Those that nobody has any more, and whom their last bytes are charged to.
    leaving: BTreeMap<WireId, Leaving>,
    /// The network process has them from a daemon before this one, and nobody has said that they are theirs.
    unclaimed: BTreeSet<WireId>,
    /// Whoever is to claim one has.
    settled: bool,
    link: Link,
}

#[derive(Debug)]
struct Leaving {
    charge: Charge,
    counted: bool,
}

/// How this daemon stands with the network process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Link {
    /// There may be one, and what it does is not known.
    #[default]
    Unknown,
    Up,
    /// There is none: no wire leads anywhere.
    Dead,
}

impl Wires {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            work: Notify::new(),
            losses: watch::Sender::new(0),
            // Above those of every daemon before: a network process outlives daemons.
            next: AtomicU64::new(clock::now_ms().saturating_mul(PER_MILLISECOND)),
        })
    }

    /// A new wire that reaches nothing, and the end for its VM. Nobody is told of it until a VM has it.
    pub(crate) fn make(self: &Arc<Self>) -> io::Result<(Wire, OwnedFd)> {
        let (for_vm, for_network) = pair()?;
        let wire = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Entry::new(Line::Stock(for_network), Policy::Closed);
        self.state().wires.insert(wire, entry);
        Ok((Wire::new(wire, self), for_vm))
    }

    /// The wire of a VM that is taken over, which may reach this.
    pub(crate) fn claim(self: &Arc<Self>, wire: WireId, policy: Policy) -> Wire {
        let mut state = self.state();
        let is_there = state.unclaimed.remove(&wire);
        let line = match state.link {
            // It turns out when there is a connection.
            Link::Unknown => Line::Attached,
            Link::Up if is_there => Line::Attached,
            Link::Up | Link::Dead => Line::Lost,
        };
        state.wires.insert(wire, Entry::new(line, policy));
        state.due.insert(wire);
        drop(state);
        self.work.notify_one();
        Wire::new(wire, self)
    }

    /// A wire for a VM that is taken over and has none that is known.
    pub(crate) fn make_lost(self: &Arc<Self>, policy: Policy) -> Wire {
        let wire = self.next.fetch_add(1, Ordering::Relaxed);
        self.state().wires.insert(wire, Entry::new(Line::Lost, policy));
        Wire::new(wire, self)
    }

    /// Everybody who could claim a wire has: those that are left are nobody's.
    pub(crate) fn settle(&self) {
        {
            let mut state = self.state();
            state.settled = true;
            state.dismiss_unclaimed();
        }
        self.work.notify_one();
    }

    /// There will never be a network process.
    pub(super) fn have_nobody(&self) {
        self.state().link = Link::Dead;
    }

    /// A network process is there and has these wires.
    pub(super) fn connected(&self, theirs: &[WireId]) {
        let theirs: BTreeSet<WireId> = theirs.iter().copied().collect();
        let lost = {
            let mut guard = self.state();
            let state = &mut *guard;
            state.link = Link::Up;
            let mut lost = false;
            for (wire, entry) in &mut state.wires {
                match entry.line {
                    Line::Attached if theirs.contains(wire) => entry.doubt(),
                    Line::Attached | Line::Refused => {
                        entry.lose();
                        lost = true;
                    }
                    Line::Lost => lost = true,
                    Line::Stock(_) | Line::Ready(_) => {}
                }
                state.due.insert(*wire);
            }
            state.unclaimed = theirs
                .into_iter()
                .filter(|wire| !state.wires.contains_key(wire) && !state.leaving.contains_key(wire))
                .collect();
            if state.settled {
                state.dismiss_unclaimed();
            }
            lost
        };
        self.work.notify_one();
        if lost {
            self.tell_losses();
        }
    }

    /// The network process cannot be heard, and may still do what it was told last.
    pub(super) fn disconnected(&self) {
        self.state().link = Link::Unknown;
    }

    /// The network process is no more: nothing gets out by any wire.
    pub(super) fn dead(&self) {
        let mut state = self.state();
        state.link = Link::Dead;
        state.leaving.clear();
        state.unclaimed.clear();
        for entry in state.wires.values_mut() {
            entry.lose();
        }
        drop(state);
        self.tell_losses();
    }

    /// Waits until there may be something to tell.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// The next thing to tell the network process.
    pub(super) fn errand(&self) -> Option<Errand> {
        let mut guard = self.state();
        let state = &mut *guard;
        while let Some(wire) = state.due.first().copied() {
            let told = if let Some(leaving) = state.leaving.get_mut(&wire) {
                let what = if leaving.counted {
                    What::Detach
                } else {
                    leaving.counted = true;
                    What::Count
                };
                let is_last = matches!(what, What::Detach);
                if is_last {
                    state.due.remove(&wire);
                }
                Some(Errand { wire, what })
            } else {
                state.wires.get_mut(&wire).and_then(|entry| entry.next(wire))
            };
            match told {
                Some(errand) => return Some(errand),
                None => {
                    state.due.remove(&wire);
                }
            }
        }
        None
    }

    /// The network process has done what it was told.
    pub(super) fn done(&self, wire: WireId, about: About) {
        let mut state = self.state();
        match about {
            About::Detach => {
                state.leaving.remove(&wire);
            }
            About::Count => {}
            About::Attach { revision } | About::Policy { revision } => {
                if let Some(entry) = state.wires.get_mut(&wire) {
                    entry.policy_holds(revision);
                }
            }
            About::Secrets { revision } => {
                if let Some(entry) = state.wires.get_mut(&wire) {
                    entry.secrets_hold(revision);
                }
            }
        }
    }

    /// The network process does not have this wire any more, or has never taken it.
    pub(super) fn missing(&self, wire: WireId, about: About) {
        let lost = {
            let mut state = self.state();
            if about == About::Detach {
                state.leaving.remove(&wire);
            }
            let entry = state.wires.get_mut(&wire);
            entry.is_some_and(|entry| {
                entry.lose();
                true
            })
        };
        if lost {
            self.tell_losses();
        }
    }

    /// The network process would not. True when it may go on doing what it was told before that.
    pub(super) fn refused(&self, wire: WireId, about: About) -> bool {
        let mut state = self.state();
        match about {
            About::Attach { .. } => {
                if let Some(entry) = state.wires.get_mut(&wire) {
                    entry.refuse();
                }
                false
            }
            About::Policy { .. } | About::Secrets { .. } => state.wires.contains_key(&wire),
            About::Count | About::Detach => {
                state.leaving.remove(&wire);
                false
            }
        }
    }

    /// Counts what has gone over wires.
    pub(super) fn count(&self, stats: &NetStats) {
        let mut state = self.state();
        for one in &stats.wires {
            if let Some(entry) = state.wires.get_mut(&one.wire) {
                entry.count(&one.counters);
            } else if let Some(leaving) = state.leaving.get_mut(&one.wire) {
                leaving.charge.count(&one.counters);
            }
        }
    }

    /// Wires that lead somewhere.
    pub(crate) fn attached(&self) -> u64 {
        let state = self.state();
        let attached = state
            .wires
            .values()
            .filter(|entry| matches!(entry.line, Line::Attached));
        attached.count() as u64
    }

    /// Whether a network process does what it is told.
    pub(crate) fn is_up(&self) -> bool {
        self.state().link == Link::Up
    }

    /// Whether surely nothing gets out by any wire.
    pub(super) fn is_dead(&self) -> bool {
        self.state().link == Link::Dead
    }

    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// Works on one wire; what has changed is told.
    pub(super) fn change<T>(&self, wire: WireId, work: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let done = {
            let mut guard = self.state();
            let state = &mut *guard;
            let entry = state.wires.get_mut(&wire)?;
            let done = work(entry);
            state.due.insert(wire);
            done
        };
        self.work.notify_one();
        Some(done)
    }

    /// Looks at one wire.
    pub(super) fn look<T>(&self, wire: WireId, look: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.state().wires.get_mut(&wire).map(look)
    }

    /// Nobody has this wire any more.
    pub(super) fn remove(&self, wire: WireId) {
        {
            let mut guard = self.state();
            let state = &mut *guard;
            let Some(mut entry) = state.wires.remove(&wire) else {
                return;
            };
            entry.dismiss_waiting();
            state.due.remove(&wire);
            if !matches!(entry.line, Line::Attached) {
                return;
            }
            let leaving = Leaving {
                charge: entry.charge,
                counted: false,
            };
            state.leaving.insert(wire, leaving);
            state.due.insert(wire);
        }
        self.work.notify_one();
    }

    fn tell_losses(&self) {
        self.losses.send_modify(|losses| *losses += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn dismiss_unclaimed(&mut self) {
        for wire in std::mem::take(&mut self.unclaimed) {
            let leaving = Leaving {
                charge: Charge::default(),
                counted: true,
            };
            self.leaving.insert(wire, leaving);
            self.due.insert(wire);
        }
    }
}

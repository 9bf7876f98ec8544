//! Ending in time what nobody uses, and what was to end anyway.
//!
//! ```text
//!  run, terminal, transfer ──▶ one store: the sandbox's last use
//!  created, merged, changed ──▶ Scheduler: one agenda, one task ──looks, at the soonest end there can be──▶ lifecycle::Lifetime
//!                                                        ▲ not yet: looks again then     over: Host::expire ◀──┘
//!                                                        └───────────────────────────────┘
//! ```
//!
//! Uses only ever put an end off, so they do not touch the agenda: whoever is due is looked at and put back. Time is the
//! [`Uptime`] of the machine, so a time of day that jumps ends nobody.

mod obituaries;
mod scheduler;
mod uptime;

pub(crate) use obituaries::{Fate, Obituaries};
pub(crate) use scheduler::{Alarm, Scheduler};
pub(crate) use uptime::Uptime;

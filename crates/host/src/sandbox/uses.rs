//! When a sandbox was last used, and whether it is in use now.
//!
//! A use costs a look at the clock and a store: nobody is told. See [`lifecycle::Lifetime`] for what counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lifecycle::{Expiry, Lifetime, Machine, Moment, Phase, Use, Verdict};

use super::handle::{Sandbox, Terms};
use crate::lifetimes::Uptime;

#[derive(Debug)]
pub(crate) struct Uses {
    uptime: Uptime,
    last_ms: AtomicU64,
    /// Transfers and the like; runs and forks are counted where they are admitted.
    going_on: AtomicU32,
}

/// Something that goes on in a sandbox and keeps it from being idle; ends when dropped.
pub(crate) struct InUse(Arc<Sandbox>);

impl Uses {
    pub(super) fn new(uptime: Uptime) -> Self {
        let now = uptime.now();
        Self {
            uptime,
            last_ms: AtomicU64::new(now.ms()),
            going_on: AtomicU32::new(0),
        }
    }

    pub(super) fn touch(&self) {
        self.last_ms.store(self.uptime.now().ms(), Ordering::Relaxed);
    }
}

impl Terms {
    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime {
            born: Moment::from_ms(self.born_ms),
            life_s: self.timeout_seconds,
            idle_s: self.idle_timeout_seconds,
        }
    }

    /// One of its two times, in seconds; 0 where there is none.
    pub(crate) fn seconds(&self, which: Expiry) -> u64 {
        let seconds = match which {
            Expiry::Lifetime => self.timeout_seconds,
            Expiry::Idle => self.idle_timeout_seconds,
        };
        seconds.unwrap_or_default()
    }
}

impl Sandbox {
    /// It is used at this moment.
    pub(crate) fn touch(&self) {
        self.uses.touch();
    }

    /// The same if something has moved: who waits in vain does not use it.
    pub(super) fn touch_if(&self, moved: bool) {
        if moved {
            self.touch();
        }
    }

    /// It is used from now on.
    pub(crate) fn in_use(self: &Arc<Self>) -> InUse {
        self.touch();
        self.uses.going_on.fetch_add(1, Ordering::AcqRel);
        InUse(Arc::clone(self))
    }

    pub(crate) fn last_use(&self) -> Moment {
        Moment::from_ms(self.uses.last_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn usage(&self) -> Use {
        // In this order: what ends in between has set the last use before.
        if self.uses.going_on.load(Ordering::Acquire) > 0 || self.machine(|machine| Machine::is_used(machine))
        {
            Use::Now
        } else {
            Use::Until(self.last_use())
        }
    }

    /// Whether its time has run out.
    pub(crate) fn verdict(&self) -> Verdict {
        let lifetime = self.title().terms.lifetime();
        lifetime.judge(self.uses.uptime.now(), self.usage())
    }

    /// Whether it is to be frozen rather than ended when nobody uses it. Of one that has failed nothing is left to freeze.
    pub(crate) fn may_freeze(&self) -> bool {
        self.title().terms.persistent && !matches!(self.phase(), Phase::Failed { .. })
    }

    pub(crate) fn uptime(&self) -> &Uptime {
        &self.uses.uptime
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.uses.going_on.fetch_sub(1, Ordering::AcqRel);
    }
}

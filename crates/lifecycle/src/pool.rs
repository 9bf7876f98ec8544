//! How many VMs of one template wait ready, and what is to be done next.
//!
//! The pool is told what happened and what the circumstances are; it says one thing to do at a time. VMs are numbers
//! to it. Creations take the newest first, because it is the likeliest to need nothing but to be woken.
//!
//! ```text
//!   fill ──▶ filling ──filled──▶ ready ──take──▶ (handed out)
//!              │                   ├──drop──▶ (memory is short, or the pool is too large)
//!              └──failed──▶ later  └──lost──▶ (it died)
//! ```

use std::time::Duration;

/// How long a refill gives way to requests. Only a host that never comes to rest for so long is refilled under load,
/// since an empty pool would make each of its creations slower.
const PATIENCE: Duration = Duration::from_millis(500);

/// After a refill that failed; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The VMs of one pool. Times are durations since any fixed moment.
#[derive(Clone, Debug)]
pub struct Pool<K> {
    target: usize,
    filling_max: usize,
    /// Oldest first.
    ready: Vec<K>,
    filling: usize,
    failures: u32,
    not_before: Duration,
    /// Since when a refill gives way.
    yielding: Option<Duration>,
}

/// What the pool cannot know by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    pub now: Duration,
    pub room: Room,
    /// Somebody waits for an answer right now.
    pub busy: bool,
}

/// Memory of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Ample,
    /// Enough for what there is.
    Tight,
    /// Something must go.
    Short,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<K> {
    /// Make one VM, then tell [`Pool::filled`] or [`Pool::fill_failed`].
    Fill,
    /// End this one; it is not in the pool any more.
    Drop(K),
    /// Ask again after this time, or when something has happened.
    Wait(Duration),
    /// Ask again when something has happened.
    Rest,
}

impl Room {
    /// From what the host's kernel calls available, what must stay free, and what one more VM needs, all in MiB.
    #[must_use]
    pub fn of(available_mib: u64, floor_mib: u64, one_more_mib: u64) -> Self {
        if available_mib < floor_mib {
            Self::Short
        } else if available_mib < floor_mib.saturating_add(one_more_mib.saturating_mul(2)) {
            Self::Tight
        } else {
            Self::Ample
        }
    }
}

impl<K: Copy + Eq> Pool<K> {
    /// An empty pool that wants to hold `target` VMs and makes at most `filling_max` at once.
    #[must_use]
    pub fn new(target: u32, filling_max: u32) -> Self {
        Self {
            target: target as usize,
            filling_max: filling_max.max(1) as usize,
            ready: Vec::new(),
            filling: 0,
            failures: 0,
            not_before: Duration::ZERO,
            yielding: None,
        }
    }

    #[must_use]
    pub fn target(&self) -> usize {
        self.target
    }

    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    #[must_use]
    pub fn filling(&self) -> usize {
        self.filling
    }

    /// Another size from now on; 0 drains the pool.
    pub fn set_target(&mut self, target: u32) {
        self.target = target as usize;
    }

    /// Hands the newest VM out.
    pub fn take(&mut self) -> Option<K> {
        self.ready.pop()
    }

    /// A VM that was being made is ready.
    pub fn filled(&mut self, vm: K) {
        self.filling = self.filling.saturating_sub(1);
        self.failures = 0;
        self.ready.push(vm);
    }

    /// A VM that was being made did not come to be.
    pub fn fill_failed(&mut self, now: Duration) {
        self.filling = self.filling.saturating_sub(1);
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16));
        self.not_before = now + pause.min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
    }

    /// A VM that was ready has died. False when it was not here any more.
    pub fn lost(&mut self, vm: K) -> bool {
        let before = self.ready.len();
        self.ready.retain(|other| *other != vm);
        self.ready.len() < before
    }

    /// What to do now. To be asked again after each answer but [`Step::Rest`] and [`Step::Wait`].
    pub fn next(&mut self, circumstances: Circumstances) -> Step<K> {
        let Circumstances { now, room, busy } = circumstances;
        if (room == Room::Short || self.ready.len() > self.target) && !self.ready.is_empty() {
            return Step::Drop(self.ready.remove(0));
        }
        let full = self.ready.len() + self.filling >= self.target;
        if full || room != Room::Ample || self.filling >= self.filling_max {
            self.yielding = None;
            return Step::Rest;
        }
        if now < self.not_before {
            return Step::Wait(self.not_before - now);
        }
        if busy {
            let waited = now.saturating_sub(*self.yielding.get_or_insert(now));
            if waited < PATIENCE {
                return Step::Wait(PATIENCE - waited);
            }
        }
        self.yielding = None;
        self.filling += 1;
        Step::Fill
    }
}

#[cfg(test)]
mod tests;

//! When something has to be looked at though nothing happened.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Flow(u32, u32),
    Udp(u32, u32),
    Question(u32),
}

/// At most one timer for each thing, which remembers when it is.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    /// Moves a timer from where it was, if it was set, to where it shall be.
    pub(crate) fn set(&mut self, timer: Timer, place: &mut Option<Instant>, at: Option<Instant>) {
        if *place == at {
            return;
        }
        if let Some(old) = place.take() {
            self.0.remove(&(old, timer));
        }
        if let Some(at) = at {
            self.0.insert((at, timer));
        }
        *place = at;
    }

    /// A timer that is due, taken out. Its place is to be cleared.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Timer> {
        let first = self.0.first().filter(|(at, _)| *at <= now)?;
        let timer = first.1;
        self.0.pop_first();
        Some(timer)
    }

    pub(crate) fn next_in(&self, now: Instant) -> Option<Duration> {
        let (at, _) = self.0.first()?;
        Some(at.saturating_duration_since(now))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_moved_and_due_once() {
        let now = Instant::now();
        let after = |seconds| Some(now + Duration::from_secs(seconds));
        let (mut timers, mut place) = (Timers::default(), None);
        timers.set(Timer::Udp(0, 1), &mut place, after(5));
        timers.set(Timer::Udp(0, 1), &mut place, after(2));
        assert_eq!(
            (timers.len(), timers.next_in(now)),
            (1, Some(Duration::from_secs(2)))
        );
        assert_eq!(timers.due(now), None);
        assert_eq!(timers.due(now + Duration::from_secs(2)), Some(Timer::Udp(0, 1)));
        assert_eq!(
            (timers.due(now + Duration::from_secs(9)), timers.len()),
            (None, 0)
        );
    }
}

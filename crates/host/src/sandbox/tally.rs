//! What one sandbox has done so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counted as runs end.
#[derive(Debug)]
pub(crate) struct Tally {
    born: Instant,
    runs: AtomicU64,
    run_us: AtomicU64,
    /// When the last of them ended, in microseconds since `born`; 0 before the first.
    last_end_us: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            runs: AtomicU64::new(0),
            run_us: AtomicU64::new(0),
            last_end_us: AtomicU64::new(0),
        }
    }
}

impl Tally {
    /// Counts a run, and says how long it waited in its sandbox. The agent carries out one at a time, first come first
    /// served: a run that was sent while another was in progress began when that one ended.
    pub(super) fn run_ended(&self, sent: Instant, ended: Instant) -> Duration {
        let since = |moment: Instant| micros(moment.saturating_duration_since(self.born));
        let before = self.last_end_us.swap(since(ended), Ordering::Relaxed);
        let waited = Duration::from_micros(before.saturating_sub(since(sent)));
        self.runs.fetch_add(1, Ordering::Relaxed);
        let ran = ended.saturating_duration_since(sent).saturating_sub(waited);
        self.run_us.fetch_add(micros(ran), Ordering::Relaxed);
        waited
    }

    /// How many have ended, and how long they took in all, waiting left out.
    pub(crate) fn runs(&self) -> (u64, Duration) {
        let spent = Duration::from_micros(self.run_us.load(Ordering::Relaxed));
        (self.runs.load(Ordering::Relaxed), spent)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_waits_for_those_that_were_in_progress_when_it_was_sent() {
        let tally = Tally::default();
        let at = |ms| tally.born + Duration::from_millis(ms);
        let ms = Duration::from_millis;
        assert_eq!(tally.run_ended(at(10), at(50)), ms(0));
        // Sent while that ran, and sent after that.
        assert_eq!(tally.run_ended(at(20), at(60)), ms(30));
        assert_eq!(tally.run_ended(at(100), at(110)), ms(0));
        assert_eq!(tally.runs(), (3, ms(40 + 10 + 10)));
    }
}

//! Rates and latencies of the last minute, for people who watch: `podflare top`.
//!
//! One slot per second holds counts on a logarithmic scale. A slot that is older than a minute is emptied by whoever
//! needs it next, so that nothing runs when nothing happens.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api::{Latency, RecentMinute};

/// Seconds that are looked back on, and slots: more, so that the one being filled is never among them.
const SECONDS: u64 = 60;
const SLOTS: usize = 64;

/// Upper end of the first bucket in milliseconds, and of each next one relative to the one before: a median is right to
/// 15 %, and the last bucket ends at 80 s.
const FIRST_MS: f64 = 0.1;
const RATIO: f64 = 1.15;
const BUCKETS: usize = 98;

#[derive(Debug)]
pub(crate) struct Recent {
    start: Instant,
    creates: Window,
    runs: Window,
}

#[derive(Debug)]
struct Window(Box<[Slot]>);

#[derive(Debug)]
struct Slot {
    /// The second it is about, counted from one.
    second: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            creates: Window::new(),
            runs: Window::new(),
        }
    }
}

impl Recent {
    pub(crate) fn created(&self, took: Duration) {
        self.creates.add(self.second(), took);
    }

    pub(crate) fn ran(&self, took: Duration) {
        self.runs.add(self.second(), took);
    }

    pub(crate) fn show(&self) -> RecentMinute {
        let now = self.second();
        RecentMinute {
            seconds: now.min(SECONDS),
            creates: self.creates.show(now),
            runs: self.runs.show(now),
        }
    }

    fn second(&self) -> u64 {
        self.start.elapsed().as_secs() + 1
    }
}

impl Window {
    fn new() -> Self {
        let slot = |_| Slot {
            second: AtomicU64::new(0),
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        };
        Self((0..SLOTS).map(slot).collect())
    }

    fn add(&self, now: u64, took: Duration) {
        let Some(slot) = usize::try_from(now).ok().and_then(|now| self.0.get(now % SLOTS)) else {
            return;
        };
        let seen = slot.second.load(Ordering::Relaxed);
        // Whoever comes first empties it; what others add meanwhile may be lost, which no median notices.
        if seen != now
            && slot
                .second
                .compare_exchange(seen, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            for count in &slot.counts {
                count.store(0, Ordering::Relaxed);
            }
        }
        if let Some(count) = slot.counts.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn show(&self, now: u64) -> Latency {
        let mut counts = [0_u64; BUCKETS];
        let oldest = now.saturating_sub(SECONDS - 1);
        for slot in &self.0 {
            if (oldest..=now).contains(&slot.second.load(Ordering::Relaxed)) {
                for (sum, count) in counts.iter_mut().zip(&slot.counts) {
                    *sum += u64::from(count.load(Ordering::Relaxed));
                }
            }
        }
        Latency {
            count: counts.iter().sum(),
            p50_ms: quantile(&counts, 50),
            p95_ms: quantile(&counts, 95),
        }
    }
}

fn bucket(took: Duration) -> usize {
    let mut end = FIRST_MS / 1000.0;
    let seconds = took.as_secs_f64();
    let mut index = 0;
    while seconds > end && index < BUCKETS - 1 {
        end *= RATIO;
        index += 1;
    }
    index
}

/// The upper end of the bucket with that hundredth in it; none when nothing was counted.
fn quantile(counts: &[u64], percent: u64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let wanted = (total * percent).div_ceil(100);
    let mut seen = 0;
    let index = counts.iter().position(|count| {
        seen += count;
        total > 0 && seen >= wanted
    })?;
    let end = FIRST_MS * RATIO.powi(i32::try_from(index).unwrap_or(i32::MAX));
    Some((end * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_looked_back_on_and_no_more() {
        let window = Window::new();
        let ms = Duration::from_millis;
        for second in 1..=70 {
            window.add(second, ms(if second % 10 == 0 { 100 } else { 4 }));
        }
        let shown = window.show(70);
        assert_eq!(shown.count, 60);
        let near = |got: Option<f64>, want: f64| (want..want * 1.16).contains(&got.unwrap());
        assert!(near(shown.p50_ms, 4.0), "{shown:?}");
        assert!(near(shown.p95_ms, 100.0), "{shown:?}");
        assert_eq!(window.show(200), Latency::default());
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_place() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_secs(3600)), BUCKETS - 1);
    }
}

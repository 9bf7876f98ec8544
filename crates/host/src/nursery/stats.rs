//! How well the pool serves, in numbers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Bucket, Histogram, PoolCapacity, PoolState};

/// Upper ends of a histogram's buckets, in milliseconds. The target of a refill, 25 ms in emulation, is one of them.
const BUCKETS_MS: [u32; 14] = [2, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 200, 500, 2000];

#[derive(Debug, Default)]
pub(super) struct Stats(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    hits: u64,
    misses: u64,
    misses_ms: f64,
    restores: u64,
    refills: [u64; BUCKETS_MS.len()],
    refills_count: u64,
    refills_ms: f64,
}

impl Stats {
    pub(super) fn hit(&self) {
        self.counts().hits += 1;
    }

    /// A creation that the pool did not serve, with the time it took.
    pub(super) fn miss(&self, took: Duration) {
        let mut counts = self.counts();
        counts.misses += 1;
        counts.misses_ms += milliseconds(took);
    }

    /// The zygote was restored.
    pub(super) fn restored(&self) {
        self.counts().restores += 1;
    }

    /// A VM was made for the pool.
    pub(super) fn refilled(&self, took: Duration) {
        let took_ms = milliseconds(took);
        let mut counts = self.counts();
        counts.refills_count += 1;
        counts.refills_ms += took_ms;
        for (count, le_ms) in counts.refills.iter_mut().zip(BUCKETS_MS) {
            if took_ms <= f64::from(le_ms) {
                *count += 1;
            }
        }
    }

    /// Fills in what is counted here.
    pub(super) fn show(&self, rest: PoolCapacity) -> PoolCapacity {
        let counts = self.counts();
        let creations = counts.hits + counts.misses;
        let rate = (counts.hits * 10_000).checked_div(creations).unwrap_or(0);
        PoolCapacity {
            hits: counts.hits,
            misses: counts.misses,
            pool_hit_rate_bp: u32::try_from(rate).unwrap_or(10_000),
            on_demand_boot_ms_mean: mean(counts.misses_ms, counts.misses),
            refill_ms: Histogram {
                buckets: BUCKETS_MS
                    .into_iter()
                    .zip(counts.refills)
                    .map(|(le_ms, count)| Bucket { le_ms, count })
                    .collect(),
                count: counts.refills_count,
                sum_ms: round(counts.refills_ms),
            },
            restores: counts.restores,
            ..rest
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A template of which nothing has been counted.
pub(crate) fn nothing() -> PoolCapacity {
    PoolCapacity {
        template: String::new(),
        state: PoolState::Off,
        last_error: None,
        size: 0,
        target: 0,
        filling: 0,
        hits: 0,
        misses: 0,
        pool_hit_rate_bp: 0,
        on_demand_boot_ms_mean: 0.0,
        refill_ms: Histogram::default(),
        clone_mib: 0,
        zygote_pid: None,
        restores: 0,
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn mean(sum: f64, count: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean of 2^52 creations may be off")]
    round(sum / count as f64)
}

/// To microseconds: more digits are noise.
fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_means_and_histograms_are_of_what_was_counted() {
        let stats = Stats::default();
        assert_eq!(stats.show(nothing()).pool_hit_rate_bp, 0);
        let ms = Duration::from_millis;
        stats.hit();
        stats.miss(ms(30));
        stats.miss(ms(50));
        for took in [3, 20, 21, 9000] {
            stats.refilled(ms(took));
        }
        let shown = stats.show(nothing());
        assert_eq!((shown.hits, shown.misses, shown.pool_hit_rate_bp), (1, 2, 3333));
        assert!((shown.on_demand_boot_ms_mean - 40.0).abs() < 0.01);
        let counts: Vec<u64> = shown
            .refill_ms
            .buckets
            .iter()
            .map(|bucket| bucket.count)
            .collect();
        assert_eq!(counts, [0, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!(shown.refill_ms.count, 4);
    }
}

//! How often something may happen: a token bucket, kept as the one moment at which it is full again.
//!
//! Keeping a moment instead of a level makes every question exact: there is no rounding, and nothing happens between
//! two looks. Times are durations since some start that the caller chooses and never goes back behind.

use std::time::Duration;

const MINUTE_NS: u64 = 60_000_000_000;

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_minute: u64,
    /// At once, after a pause that was long enough.
    pub burst: u64,
}

/// Tokens are taken one for each thing that happens, and come back at a steady rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Takes `count` tokens, or says how long it will be until that many can be taken. More than a whole bucket can be
    /// had when it is full; what comes next waits the longer.
    ///
    /// # Errors
    /// The time to wait; nothing was taken. Asked again after it, the answer is yes if nobody else was first.
    pub fn take(&mut self, now: Duration, count: u64, rate: Rate) -> Result<(), Duration> {
        let each = Duration::from_nanos((MINUTE_NS / rate.per_minute.max(1)).max(1));
        let spare = rate.burst.saturating_sub(count);
        // Full by then, less what may be missing: that many more tokens than asked for.
        let ready = self.full_at.saturating_sub(times(each, spare));
        if ready > now {
            return Err(ready - now);
        }
        self.full_at = self.full_at.max(now) + times(each, count);
        Ok(())
    }
}

fn times(each: Duration, count: u64) -> Duration {
    each.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate {
        per_minute: 60,
        burst: 3,
    };

    #[test]
    fn a_burst_is_let_through_then_one_each_second() {
        let mut bucket = Bucket::default();
        let second = Duration::from_secs(1);
        for _ in 0..3 {
            bucket.take(second, 1, RATE).unwrap();
        }
        assert_eq!(bucket.take(second, 1, RATE), Err(second));
        assert_eq!(bucket.take(second, 2, RATE), Err(2 * second));
        bucket.take(2 * second, 1, RATE).unwrap();
    }

    #[test]
    fn more_than_a_bucket_is_had_from_a_full_one_and_paid_for_afterwards() {
        let mut bucket = Bucket::default();
        bucket.take(Duration::ZERO, 10, RATE).unwrap();
        assert_eq!(bucket.take(Duration::ZERO, 1, RATE), Err(Duration::from_secs(8)));
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_its_rate_and_two_bursts_and_every_wait_is_honest(
            rate in (1_u64..100_000, 1_u64..50).prop_map(|(per_minute, burst)| Rate { per_minute, burst }),
            asked in proptest::collection::vec((0_u64..5_000, 1_u64..33), 1..200),
        ) {
            let mut bucket = Bucket::default();
            let mut now = Duration::ZERO;
            let mut taken = 0_u64;
            let mut largest = 0;
            for (pause_ms, count) in asked {
                now += Duration::from_millis(pause_ms);
                let before = bucket;
                if let Err(wait) = bucket.take(now, count, rate) {
                    prop_assert_eq!(before.full_at, bucket.full_at);
                    // In whole seconds, rounded up, as a header has it.
                    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                    let mut later = bucket;
                    prop_assert!(later.take(now + Duration::from_secs(seconds), count, rate).is_ok());
                    let early = wait.saturating_sub(Duration::from_nanos(1));
                    prop_assert!(bucket.clone().take(now + early, count, rate).is_err());
                } else {
                    taken += count;
                    largest = largest.max(count);
                }
            }
            let each = u128::from(MINUTE_NS / rate.per_minute);
            let refilled = now.as_nanos() / each.max(1);
            prop_assert!(u128::from(taken) <= u128::from(rate.burst.max(largest) + largest) + refilled + 1);
        }
    }
}

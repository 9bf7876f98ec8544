//! When a delivery is tried again. Pure, so that it can be tested by properties.
//!
//! The pauses are 5 s, then three times as long each time up to 6 h, each a fifth shorter or longer by chance, for three
//! days. A webhook for which nothing has succeeded for five days is disabled.

use std::time::Duration;

use crate::store::Outcome;

const FIRST_MS: u64 = 5_000;
const FACTOR: u64 = 3;
const LONGEST_MS: u64 = 6 * 3600 * 1000;

/// A delivery that is older than this when an attempt fails is given up.
pub(super) const AGE_MAX: Duration = Duration::from_secs(3 * 24 * 3600);

/// A webhook of which every attempt has failed for so long is disabled.
pub(super) const DISABLE_AFTER: Duration = Duration::from_secs(5 * 24 * 3600);

/// So often a delivery is tried before later ones of the same sandbox may pass it: for about three minutes.
pub(super) const HOLD_ATTEMPTS: u32 = 5;

/// How long a webhook that fails is left alone between two attempts, whatever waits for it: the longer it has failed, the
/// longer. A receiver that is gone must cost the host next to nothing.
const REST_PART: u64 = 20;
const REST_MIN_MS: u64 = 500;
const REST_MAX_MS: u64 = 30_000;

pub(super) fn rest(failing_since_ms: u64, now_ms: u64) -> Duration {
    let failing_ms = now_ms.saturating_sub(failing_since_ms);
    Duration::from_millis((failing_ms / REST_PART).clamp(REST_MIN_MS, REST_MAX_MS))
}

/// What becomes of a delivery whose attempt has failed; `attempts` counts that one, `chance` is between 0 and 1.
pub(super) fn after_failure(created_at_ms: u64, attempts: u32, now_ms: u64, chance: f64) -> Outcome {
    let next_ms = now_ms.saturating_add(pause_ms(attempts, chance));
    if next_ms.saturating_sub(created_at_ms) > millis(AGE_MAX) {
        return Outcome::Failed;
    }
    Outcome::Again(next_ms)
}

/// Whether a webhook has failed for too long.
pub(super) fn is_hopeless(failing_since_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(failing_since_ms) > millis(DISABLE_AFTER)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "between 4 s and 8 h in milliseconds"
)]
fn pause_ms(attempts: u32, chance: f64) -> u64 {
    let steps = attempts.saturating_sub(1);
    let pause = FACTOR.checked_pow(steps).map_or(LONGEST_MS, |factor| {
        factor.saturating_mul(FIRST_MS).min(LONGEST_MS)
    });
    (pause as f64 * (0.8 + 0.4 * chance.clamp(0.0, 1.0))) as u64
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_delivery_is_tried_about_twenty_times_in_three_days_and_then_given_up() {
        let (mut now_ms, mut attempts) = (0, 1);
        while let Outcome::Again(next) = after_failure(0, attempts, now_ms, 0.5) {
            (now_ms, attempts) = (next, attempts + 1);
        }
        assert!((15..=25).contains(&attempts), "{attempts}");
        assert!(
            now_ms > 2 * 24 * 3600 * 1000 && now_ms <= millis(AGE_MAX),
            "{now_ms}"
        );
    }

    #[test]
    fn later_ones_are_held_back_for_minutes_not_hours() {
        let held: u64 = (1..HOLD_ATTEMPTS).map(|attempts| pause_ms(attempts, 0.5)).sum();
        assert!((60_000..600_000).contains(&held), "{held}");
    }

    #[test]
    fn a_webhook_that_has_failed_for_long_is_rarely_tried() {
        assert_eq!(rest(1_000, 1_000), Duration::from_millis(500));
        assert_eq!(rest(0, 60_000), Duration::from_secs(3));
        assert_eq!(rest(0, u64::MAX), Duration::from_secs(30));
        // The clock was set back.
        assert_eq!(rest(5_000, 1_000), Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn pauses_are_never_short_nor_endless(attempts in 1..u32::MAX, chance in -1.0..2.0_f64) {
            let pause = pause_ms(attempts, chance);
            prop_assert!((4_000..=LONGEST_MS * 12 / 10).contains(&pause));
            prop_assert!(pause_ms(attempts.saturating_add(1), 0.5) >= pause_ms(attempts, 0.5));
        }
    }
}

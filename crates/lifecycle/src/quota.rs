//! How many sandboxes a tenant may have, and how fast it may make them.

use std::time::Duration;

use pod_types::Limits;
use thiserror::Error;

use crate::bucket::{Bucket, Rate};

/// One tenant's sandboxes, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quota {
    held: u64,
    creates: Bucket,
}

/// Why a tenant gets no more sandboxes now. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuotaRefused {
    /// Waiting does not help: more is asked for at once than may ever be.
    #[error("this tenant may have {max} sandboxes at once, and {wanted} were asked for")]
    Never { wanted: u64, max: u64 },
    #[error("this tenant has {held} of its {max} sandboxes already")]
    TooMany { held: u64, max: u64 },
    #[error("this tenant may create {per_minute} sandboxes a minute and has just done so")]
    TooFast { per_minute: u64, wait: Duration },
}

impl QuotaRefused {
    /// Whole seconds after which it is worth trying again; after a wait for the rate the same call succeeds.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Never { .. } => None,
            // Somebody has to delete one first, and nobody knows when.
            Self::TooMany { .. } => Some(1),
            Self::TooFast { wait, .. } => Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)),
        }
    }
}

impl Quota {
    /// Makes room for `count` more sandboxes at once, to be given back one by one.
    ///
    /// # Errors
    /// [`QuotaRefused`]; what is refused costs nothing.
    pub fn admit(&mut self, now: Duration, count: u64, limits: &Limits) -> Result<(), QuotaRefused> {
        let held = self.held;
        match limits.sandboxes {
            Some(max) if count > max => return Err(QuotaRefused::Never { wanted: count, max }),
            Some(max) if held + count > max => return Err(QuotaRefused::TooMany { held, max }),
            Some(_) | None => {}
        }
        if let Some(per_minute) = limits.creates_per_minute {
            let burst = limits.create_burst.unwrap_or(per_minute);
            let rate = Rate { per_minute, burst };
            let taken = self.creates.take(now, count, rate);
            taken.map_err(|wait| QuotaRefused::TooFast { per_minute, wait })?;
        }
        self.held += count;
        Ok(())
    }

    /// Counts a sandbox that exists already, whatever the limits are by now.
    pub fn readmit(&mut self) {
        self.held += 1;
    }

    /// A sandbox is gone.
    pub fn release(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }
}

/// Whether a tenant that holds `mine` of the `total` sandboxes of `holders` tenants has less than an equal share. One
/// that has all of them has nobody to get any from.
#[must_use]
pub fn is_below_share(mine: u64, total: u64, holders: u64) -> bool {
    mine < total && mine.saturating_mul(holders.max(1)) < total
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_types::{Limit, Overrides, Tier};
    use proptest::prelude::*;

    fn limits(sandboxes: u64, per_minute: u64, burst: u64) -> Limits {
        let overrides = Overrides::from([
            (Limit::Sandboxes, Some(sandboxes)),
            (Limit::CreatesPerMinute, Some(per_minute)),
            (Limit::CreateBurst, Some(burst)),
        ]);
        Limits::new(Tier::Unlimited, &overrides)
    }

    #[test]
    fn what_is_refused_for_the_number_costs_nothing_of_the_rate() {
        let limits = limits(1, 60, 2);
        let mut quota = Quota::default();
        quota.admit(Duration::ZERO, 1, &limits).unwrap();
        for _ in 0..9 {
            let refused = quota.admit(Duration::ZERO, 1, &limits).unwrap_err();
            assert_eq!(refused, QuotaRefused::TooMany { held: 1, max: 1 });
        }
        quota.release();
        quota.admit(Duration::ZERO, 1, &limits).unwrap();
        quota.release();
        let refused = quota.admit(Duration::ZERO, 1, &limits).unwrap_err();
        assert_eq!(refused.retry_after_s(), Some(1));
        quota.admit(Duration::from_secs(1), 1, &limits).unwrap();
    }

    #[test]
    fn more_at_once_than_ever_allowed_is_not_worth_waiting_for() {
        let refused = Quota::default()
            .admit(Duration::ZERO, 3, &limits(2, 60, 9))
            .unwrap_err();
        assert_eq!(refused.retry_after_s(), None);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_are_held(steps in proptest::collection::vec((any::<bool>(), 1_u64..6), 1..200)) {
            let limits = limits(7, 6000, 50);
            let mut quota = Quota::default();
            let mut held = 0;
            for (at, (take, count)) in (0..).zip(steps) {
                if take {
                    if quota.admit(Duration::from_millis(at), count, &limits).is_ok() {
                        held += count;
                    }
                } else if held > 0 {
                    quota.release();
                    held -= 1;
                }
                prop_assert_eq!(quota.held(), held);
                prop_assert!(held <= 7);
            }
        }

        #[test]
        fn not_all_are_below_their_share_and_one_alone_never_is(held in proptest::collection::vec(0_u64..50, 1..9)) {
            let total = held.iter().sum();
            let holders = held.iter().filter(|mine| **mine > 0).count() as u64;
            let below = held.iter().filter(|mine| is_below_share(**mine, total, holders)).count();
            prop_assert!(below < held.len());
            if holders == 1 {
                prop_assert!(held.iter().all(|mine| *mine == 0 || !is_below_share(*mine, total, holders)));
            }
        }
    }
}

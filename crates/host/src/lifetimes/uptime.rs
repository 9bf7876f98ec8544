//! The clock that lifetimes are counted by.
//!
//! `CLOCK_MONOTONIC` begins when the machine is booted, so its moments mean the same to the next daemon on the same boot,
//! and nobody can set it. It stands still while the machine is suspended, and so do the VMs: closing a laptop ends nobody,
//! as `CLOCK_BOOTTIME` would.

use lifecycle::Moment;

#[derive(Clone, Debug, Default)]
pub(crate) struct Uptime {
    #[cfg(test)]
    tests: std::sync::Arc<TestClock>,
}

/// Follows the runtime's clock, which tests may stop, and can be put ahead.
#[cfg(test)]
#[derive(Debug)]
struct TestClock {
    start: tokio::time::Instant,
    ahead_ms: std::sync::atomic::AtomicU64,
}

impl Uptime {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have a clock of their own")]
    pub(crate) fn now(&self) -> Moment {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let ms = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or_default();
        Moment::from_ms(seconds.saturating_mul(1000).saturating_add(ms))
    }

    #[cfg(test)]
    pub(crate) fn now(&self) -> Moment {
        let elapsed = u64::try_from(self.tests.start.elapsed().as_millis()).unwrap();
        let ahead = self.tests.ahead_ms.load(std::sync::atomic::Ordering::SeqCst);
        Moment::from_ms(elapsed + ahead)
    }

    #[cfg(test)]
    pub(super) fn skip(&self, seconds: u64) {
        let ms = seconds * 1000;
        self.tests
            .ahead_ms
            .fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Default for TestClock {
    fn default() -> Self {
        Self {
            start: tokio::time::Instant::now(),
            ahead_ms: std::sync::atomic::AtomicU64::new(0),
        }
    }
}

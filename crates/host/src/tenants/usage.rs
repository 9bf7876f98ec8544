//! What one tenant uses, counted where it happens and written from time to time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::store::UsageDelta;

/// Counters since the last time they were written. Whatever moves bytes for a sandbox tells the
/// sandbox, which tells [`Self::sent`] and [`Self::received`]; each is one addition.
#[derive(Debug)]
pub(crate) struct Usage {
    sandboxes: AtomicU64,
    execs: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    network_sent: AtomicU64,
    network_received: AtomicU64,
    meter: Mutex<Meter>,
}

/// Sandbox time: the number of sandboxes, added up over time.
#[derive(Clone, Copy, Debug)]
struct Meter {
    live: u64,
    since: Instant,
    ns: u128,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            sandboxes: AtomicU64::new(0),
            execs: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            network_sent: AtomicU64::new(0),
            network_received: AtomicU64::new(0),
            meter: Mutex::new(Meter {
                live: 0,
                since: Instant::now(),
                ns: 0,
            }),
        }
    }
}

impl Usage {
    /// A client has sent so many bytes for a sandbox: code, input, a file.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A sandbox has sent so many bytes to a client: events, output, a file.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes have gone from sandboxes to the world, and back.
    pub(crate) fn network(&self, sent: u64, received: u64) {
        self.network_sent.fetch_add(sent, Ordering::Relaxed);
        self.network_received.fetch_add(received, Ordering::Relaxed);
    }

    pub(crate) fn exec(&self) {
        self.execs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sandbox_begins(&self) {
        self.sandboxes.fetch_add(1, Ordering::Relaxed);
        self.meter().step(|live| live + 1);
    }

    pub(super) fn sandbox_ends(&self) {
        self.meter().step(|live| live.saturating_sub(1));
    }

    pub(super) fn live(&self) -> u64 {
        self.meter().live
    }

    /// Takes what has come together; `None` when that is nothing.
    pub(super) fn take(&self) -> Option<UsageDelta> {
        let taken = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let used = UsageDelta {
            sandboxes: taken(&self.sandboxes),
            sandbox_ms: self.meter().take_ms(),
            execs: taken(&self.execs),
            bytes_in: taken(&self.bytes_in),
            bytes_out: taken(&self.bytes_out),
            network_sent: taken(&self.network_sent),
            network_received: taken(&self.network_received),
        };
        (used != UsageDelta::default()).then_some(used)
    }

    /// Gives back what could not be written.
    pub(super) fn put_back(&self, used: &UsageDelta) {
        self.sandboxes.fetch_add(used.sandboxes, Ordering::Relaxed);
        self.execs.fetch_add(used.execs, Ordering::Relaxed);
        self.bytes_in.fetch_add(used.bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(used.bytes_out, Ordering::Relaxed);
        self.network(used.network_sent, used.network_received);
        self.meter().ns += u128::from(used.sandbox_ms) * 1_000_000;
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    fn step(&mut self, next: impl FnOnce(u64) -> u64) {
        let now = Instant::now();
        self.ns += now.duration_since(self.since).as_nanos() * u128::from(self.live);
        self.since = now;
        self.live = next(self.live);
    }

    /// Whole milliseconds; the rest stays for the next time.
    fn take_ms(&mut self) -> u64 {
        self.step(|live| live);
        let ms = self.ns / 1_000_000;
        self.ns %= 1_000_000;
        u64::try_from(ms).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_what_is_put_back_is_there_again() {
        let usage = Usage::default();
        assert_eq!(usage.take(), None);
        usage.exec();
        usage.received(5);
        usage.sent(7);
        let used = usage.take().unwrap();
        assert_eq!((used.execs, used.bytes_in, used.bytes_out), (1, 5, 7));
        assert_eq!(usage.take(), None);
        usage.put_back(&used);
        assert_eq!(usage.take(), Some(used));
    }

    #[test]
    fn two_sandboxes_take_twice_the_time() {
        let mut meter = Meter {
            live: 2,
            since: Instant::now() - std::time::Duration::from_millis(100),
            ns: 0,
        };
        let ms = meter.take_ms();
        assert!((200..1000).contains(&ms), "{ms}");
    }
}

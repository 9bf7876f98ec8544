//! Who waits for an answer right now. Work that nobody waits for gives way to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A client that has just been answered is likely to ask for more at once.
const AFTERGLOW: Duration = Duration::from_millis(20);

/// Requests in progress on the whole host.
#[derive(Debug)]
pub(crate) struct Activity {
    runs: AtomicU32,
    /// Creations, forks and merges.
    births: AtomicU32,
    quiet: Notify,
    start: Instant,
    /// When the last of them ended, in milliseconds since `start`.
    last_ms: AtomicU64,
}

/// A creation or fork in progress; ends when dropped.
#[derive(Debug)]
pub(crate) struct Foreground(Arc<Activity>);

impl Default for Activity {
    fn default() -> Self {
        Self {
            runs: AtomicU32::new(0),
            births: AtomicU32::new(0),
            quiet: Notify::new(),
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }
}

impl Activity {
    pub(crate) fn begin_run(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end_run(&self) {
        self.touch();
        if self.runs.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.quiet.notify_waiters();
        }
    }

    pub(crate) fn foreground(self: &Arc<Self>) -> Foreground {
        self.births.fetch_add(1, Ordering::Relaxed);
        Foreground(Arc::clone(self))
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Somebody waits, or did a moment ago.
    pub(crate) fn is_busy(&self) -> bool {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.runs() > 0
            || self.births.load(Ordering::Relaxed) > 0
            || (!last.is_zero() && self.start.elapsed() < last + AFTERGLOW)
    }

    /// Since the host was started.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Creations, forks and merges in progress.
    pub(crate) fn births(&self) -> u32 {
        self.births.load(Ordering::Relaxed)
    }

    /// Waits until nothing runs.
    pub(crate) async fn quiet(&self) {
        loop {
            let quiet = self.quiet.notified();
            if self.runs() == 0 {
                return;
            }
            quiet.await;
        }
    }

    fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now.max(1), Ordering::Relaxed);
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.0.touch();
        self.0.births.fetch_sub(1, Ordering::Relaxed);
    }
}

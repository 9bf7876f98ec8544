//! Lines on standard error, which the daemon keeps.
//!
//! Whatever a guest can provoke goes through [`GuestLog`], which lets a few lines per period pass and counts the rest:
//! a guest must not fill the host's disk with our words.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines a [`GuestLog`] lets pass per [`PERIOD`].
const LINES_PER_PERIOD: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// Writes one line. Not for what a guest can provoke.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    // Nobody can be told that the log is gone.
    let _ = writeln!(io::stderr().lock(), "podflare-vmm: {text}");
}

/// A source of lines that a guest can trigger at will.
#[derive(Debug, Default)]
pub(crate) struct GuestLog {
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    opened: Instant,
    lines: u32,
    dropped: u64,
}

impl GuestLog {
    pub(crate) const fn new() -> Self {
        Self {
            window: Mutex::new(None),
        }
    }

    pub(crate) fn line(&self, text: fmt::Arguments<'_>) {
        match self.admit(Instant::now()) {
            Some(0) => line(text),
            Some(dropped) => line(format_args!(
                "{text} ({dropped} lines like this were dropped before)"
            )),
            None => {}
        }
    }

    /// `None`: drop this line. `Some`: print it; that many were dropped since the last one printed.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().ok()?;
        let current = window.get_or_insert(Window {
            opened: now,
            lines: 0,
            dropped: 0,
        });
        if now.duration_since(current.opened) >= PERIOD {
            current.opened = now;
            current.lines = 0;
        }
        if current.lines == LINES_PER_PERIOD {
            current.dropped += 1;
            return None;
        }
        current.lines += 1;
        Some(std::mem::take(&mut current.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let log = GuestLog::new();
        let start = Instant::now();
        let passed = (0..1000).filter(|_| log.admit(start).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(log.admit(start + PERIOD), Some(990));
        assert_eq!(log.admit(start + PERIOD), Some(0));
    }
}

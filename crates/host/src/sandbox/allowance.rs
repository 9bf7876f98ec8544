//! How many lines one sandbox may cause in the log.
//!
//! A guest that breaks the protocol, and a client that runs code in it again and again, must not fill the disk or hide
//! what happens to others.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::handle::Sandbox;
use crate::events;

/// Lines that may come at once.
const BURST: u32 = 10;
/// Then one more for each of these.
const ONE_PER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Allowance(Mutex<Account>);

#[derive(Debug)]
struct Account {
    left: u32,
    /// Up to when what is left has been counted.
    counted: Instant,
    left_out: u64,
}

/// What may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The line, and how many were left out before it.
    Granted {
        left_out: u64,
    },
    Refused,
}

impl Default for Allowance {
    fn default() -> Self {
        Self(Mutex::new(Account {
            left: BURST,
            counted: Instant::now(),
            left_out: 0,
        }))
    }
}

impl Allowance {
    pub(super) fn ask(&self, now: Instant) -> Word {
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(account.counted);
        let earned = since.as_secs() / ONE_PER.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(BURST);
            account.left = account.left.saturating_add(earned).min(BURST);
            account.counted += ONE_PER.saturating_mul(earned);
        }
        if account.left == 0 {
            account.left_out += 1;
            return Word::Refused;
        }
        account.left -= 1;
        Word::Granted {
            left_out: std::mem::take(&mut account.left_out),
        }
    }
}

impl Sandbox {
    /// Whether a line that its guest causes may go into the log.
    pub(crate) fn may_log(&self) -> bool {
        match self.allowance.ask(Instant::now()) {
            Word::Granted { left_out: 0 } => true,
            Word::Granted { left_out } => {
                tracing::warn!(event = events::LINES_LEFT_OUT, sandbox_id = %self.id(), left_out, "lines were left out");
                true
            }
            Word::Refused => {
                self.metrics.log_lines_left_out.inc();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_then_a_line_now_and_then_with_the_number_of_those_left_out() {
        let allowance = Allowance::default();
        let start = Instant::now();
        for _ in 0..BURST {
            assert_eq!(allowance.ask(start), Word::Granted { left_out: 0 });
        }
        for _ in 0..7 {
            assert_eq!(allowance.ask(start), Word::Refused);
        }
        let later = start + ONE_PER + Duration::from_secs(1);
        assert_eq!(allowance.ask(later), Word::Granted { left_out: 7 });
        assert_eq!(allowance.ask(later), Word::Refused);
        let much_later = later + Duration::from_secs(86_400);
        for _ in 0..BURST {
            assert!(matches!(allowance.ask(much_later), Word::Granted { .. }));
        }
        assert_eq!(allowance.ask(much_later), Word::Refused);
    }
}

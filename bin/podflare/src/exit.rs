//! What this program's exit status says.

use std::process::ExitCode;

/// How the program ended, for whoever called it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done as asked.
    Ok,
    /// Not done; the reason is on stderr.
    Failed,
    /// Arguments that make no sense; clap uses the same status.
    Usage,
    /// Code ran in a sandbox, and this is its own exit code (as `ssh` does it).
    Run(u8),
    /// Code was to be run in a sandbox, and Podflare could not: 125, as container tools have it, so that it cannot
    /// be confused with most exit codes of programs.
    NotRun,
    /// Ended by a signal, given by its number.
    Interrupted(u8),
}

/// Status for code that Podflare could not run.
const NOT_RUN: u8 = 125;

/// Added to a signal's number, by the convention of shells.
const SIGNAL_BASE: u8 = 128;

impl Exit {
    /// The status as the kernel and the shell see it.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Run(code) => code,
            Self::NotRun => NOT_RUN,
            Self::Interrupted(signal) => SIGNAL_BASE.saturating_add(signal),
        }
    }

    /// The exit code of a run. One outside 0..=255 keeps its low byte, as the kernel would do, but never becomes 0.
    pub(crate) fn of_run(code: i64) -> Self {
        let low = u8::try_from(code.rem_euclid(256)).unwrap_or(u8::MAX);
        if low == 0 && code != 0 {
            Self::Run(1)
        } else {
            Self::Run(low)
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_run_never_looks_like_success() {
        assert_eq!(Exit::of_run(0).status(), 0);
        assert_eq!(Exit::of_run(7).status(), 7);
        assert_eq!(Exit::of_run(-1).status(), 255);
        assert_eq!(Exit::of_run(256).status(), 1);
        assert_eq!(Exit::of_run(i64::MIN).status(), 1);
    }
}

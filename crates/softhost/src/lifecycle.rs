//! The supervisor's decisions, without time, processes or files of its own.
//!
//! ```text
//!            start fails, ends early, or no answer in time (at most `boot_tries` in a row)
//!          ┌────────────────────────────────────┐
//!          v                                    │
//!  ┌─> Waiting ──(delay over)──> Starting ──(answers)──> Running
//!  │       ^                                    │           │
//!  │       └──────────(ended)──── Ending <──────┴─(silent)──┤
//!  └────────(ended; at most `restarts` in a window)─────────┘
//!
//!  stop asked, anywhere ──> Stopping ──(ended)──> Over(Stopped)        out of tries or restarts ──> Over(Failed)
//! ```
//!
//! Each event answers with at most one command. Times are durations since any fixed moment, so that a test decides
//! how they pass. Silence counts only by failed questions: a supervisor that did not run itself, as on a suspended
//! laptop, does not blame the host for it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::settings::Limits;

/// Questions in a row without an answer before silence counts at all.
const UNANSWERED_MIN: u32 = 3;
/// How long a killed process may take to be gone before it is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time has passed.
    Tick,
    /// The command [`Command::Start`] could not be carried out.
    StartFailed(String),
    /// The API answered.
    Answered,
    /// The API was asked and did not answer.
    Unanswered,
    /// The process has ended; how, in words.
    Ended(String),
    /// The user wants it stopped.
    StopAsked,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Start,
    AskToStop,
    Kill,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting {
        until: Duration,
    },
    Starting {
        since: Duration,
    },
    Running {
        answered: Duration,
        unanswered: u32,
    },
    /// Killed; `why` says what for, `was_running` whether it had come up.
    Ending {
        killed: Duration,
        why: String,
        was_running: bool,
    },
    Stopping {
        since: Duration,
        killed: bool,
    },
    Over(End),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Stopped,
    /// Given up, and why.
    Failed(String),
}

#[derive(Debug)]
pub(crate) struct Lifecycle {
    limits: Limits,
    pub(crate) phase: Phase,
    /// Failed starts since it last ran.
    tries: u32,
    /// When it was restarted, within the window.
    restarted: VecDeque<Duration>,
    pub(crate) retries: u32,
    pub(crate) restarts: u32,
    /// Whether it ever ran.
    pub(crate) has_run: bool,
    pub(crate) boot: Option<Duration>,
    pub(crate) last_error: Option<String>,
}

impl Lifecycle {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Waiting {
                until: Duration::ZERO,
            },
            tries: 0,
            restarted: VecDeque::new(),
            retries: 0,
            restarts: 0,
            has_run: false,
            boot: None,
            last_error: None,
        }
    }

    pub(crate) fn handle(&mut self, now: Duration, event: Event) -> Option<Command> {
        match event {
            Event::Tick => self.tick(now),
            Event::StartFailed(why) | Event::Ended(why) => self.ended(now, why),
            Event::Answered => self.answered(now),
            Event::Unanswered => self.unanswered(now),
            Event::StopAsked => self.stop(now),
        }
    }

    fn tick(&mut self, now: Duration) -> Option<Command> {
        match &mut self.phase {
            Phase::Waiting { until } if now >= *until => {
                self.phase = Phase::Starting { since: now };
                Some(Command::Start)
            }
            Phase::Starting { since } if now.saturating_sub(*since) >= self.limits.boot => {
                let why = format!(
                    "the API did not answer within {} s of the start",
                    self.limits.boot.as_secs()
                );
                self.phase = Phase::Ending {
                    killed: now,
                    why,
                    was_running: false,
                };
                Some(Command::Kill)
            }
            Phase::Ending { killed, .. } if now.saturating_sub(*killed) >= KILL_AGAIN => {
                *killed = now;
                Some(Command::Kill)
            }
            Phase::Stopping {
                since,
                killed: killed @ false,
            } if now.saturating_sub(*since) >= self.limits.stop => {
                *killed = true;
                Some(Command::Kill)
            }
            _ => None,
        }
    }

    fn answered(&mut self, now: Duration) -> Option<Command> {
        match self.phase {
            Phase::Starting { since } => {
                self.boot = Some(now.saturating_sub(since));
                self.tries = 0;
                self.has_run = true;
                self.phase = Phase::Running {
                    answered: now,
                    unanswered: 0,
                };
            }
            Phase::Running { .. } => {
                self.phase = Phase::Running {
                    answered: now,
                    unanswered: 0,
                }
            }
            _ => {}
        }
        None
    }

    fn unanswered(&mut self, now: Duration) -> Option<Command> {
        let Phase::Running { answered, unanswered } = &mut self.phase else {
            return None;
        };
        *unanswered = unanswered.saturating_add(1);
        let silence = now.saturating_sub(*answered);
        if silence < self.limits.silence || *unanswered < UNANSWERED_MIN {
            return None;
        }
        let why = format!("the API did not answer for {} s", silence.as_secs());
        self.phase = Phase::Ending {
            killed: now,
            why,
            was_running: true,
        };
        Some(Command::Kill)
    }

    fn ended(&mut self, now: Duration, how: String) -> Option<Command> {
        match std::mem::replace(&mut self.phase, Phase::Over(End::Stopped)) {
            Phase::Starting { .. } => self.start_failed(now, how),
            Phase::Running { .. } => self.died(now, how),
            Phase::Ending {
                why,
                was_running: false,
                ..
            } => self.start_failed(now, why),
            Phase::Ending {
                why,
                was_running: true,
                ..
            } => self.died(now, why),
            Phase::Stopping { .. } => {}
            // Nothing was running, so nothing has ended.
            phase @ (Phase::Waiting { .. } | Phase::Over(_)) => self.phase = phase,
        }
        None
    }

    fn start_failed(&mut self, now: Duration, why: String) {
        self.tries += 1;
        self.last_error = Some(why.clone());
        if self.tries >= self.limits.boot_tries {
            self.phase = Phase::Over(End::Failed(format!(
                "{} starts in a row failed; the last: {why}",
                self.tries
            )));
        } else {
            self.retries += 1;
            self.phase = Phase::Waiting {
                until: now + self.limits.restart_delay,
            };
        }
    }

    fn died(&mut self, now: Duration, why: String) {
        self.last_error = Some(why.clone());
        while self
            .restarted
            .front()
            .is_some_and(|at| now.saturating_sub(*at) >= self.limits.restart_window)
        {
            self.restarted.pop_front();
        }
        if self.restarted.len() >= usize::try_from(self.limits.restarts).unwrap_or(usize::MAX) {
            let times = self.restarted.len();
            let seconds = self.limits.restart_window.as_secs();
            self.phase = Phase::Over(End::Failed(format!(
                "it was restarted {times} times within {seconds} s; the last: {why}"
            )));
        } else {
            self.restarted.push_back(now);
            self.restarts += 1;
            self.phase = Phase::Waiting {
                until: now + self.limits.restart_delay,
            };
        }
    }

    fn stop(&mut self, now: Duration) -> Option<Command> {
        match &mut self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Over(End::Stopped);
                None
            }
            Phase::Starting { .. } | Phase::Running { .. } => {
                self.phase = Phase::Stopping {
                    since: now,
                    killed: false,
                };
                Some(Command::AskToStop)
            }
            Phase::Ending { .. } => {
                self.phase = Phase::Stopping {
                    since: now,
                    killed: true,
                };
                None
            }
            // Asked twice: somebody is impatient.
            Phase::Stopping {
                killed: killed @ false,
                ..
            } => {
                *killed = true;
                Some(Command::Kill)
            }
            Phase::Stopping { .. } | Phase::Over(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;

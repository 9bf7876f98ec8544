//! How long a run that was asked to stop is given. Pure: time comes in, steps come out.

use std::time::{Duration, Instant};

/// From the interrupt to the killing of the processes the run started.
const UNTIL_CHILDREN_DIE: Duration = Duration::from_secs(2);
/// From the interrupt to the killing of the interpreter, which loses its state.
const UNTIL_KILL: Duration = Duration::from_secs(10);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Interrupt,
    KillChildren,
    Kill,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Patience {
    #[default]
    Unasked,
    Asked {
        at: Instant,
        children_killed: bool,
    },
    Exhausted,
}

impl Patience {
    /// The run shall stop: the first step, the first time this is called.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<Step> {
        match self {
            Self::Unasked => {
                *self = Self::Asked {
                    at: now,
                    children_killed: false,
                };
                Some(Step::Interrupt)
            }
            Self::Asked { .. } | Self::Exhausted => None,
        }
    }

    /// Whether the run was told to stop.
    pub(crate) fn was_asked(self) -> bool {
        !matches!(self, Self::Unasked)
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Asked {
                at,
                children_killed: false,
            } => Some(*at + UNTIL_CHILDREN_DIE),
            Self::Asked {
                at,
                children_killed: true,
            } => Some(*at + UNTIL_KILL),
            Self::Unasked | Self::Exhausted => None,
        }
    }

    /// The next step, when its time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Step> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match self {
            Self::Asked {
                children_killed: killed @ false,
                ..
            } => {
                *killed = true;
                Some(Step::KillChildren)
            }
            _ => {
                *self = Self::Exhausted;
                Some(Step::Kill)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_taken_once_and_in_order() {
        let start = Instant::now();
        let mut patience = Patience::default();
        assert_eq!(patience.due(start), None);
        assert_eq!(patience.ask(start), Some(Step::Interrupt));
        assert_eq!(patience.ask(start), None);
        let mut steps = Vec::new();
        for tenth in 0..200 {
            let now = start + Duration::from_millis(100 * tenth);
            steps.extend(patience.due(now).map(|step| (tenth, step)));
        }
        assert_eq!(steps, [(20, Step::KillChildren), (100, Step::Kill)]);
        assert_eq!(patience.deadline(), None);
    }
}

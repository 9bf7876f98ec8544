//! The state machine of one sandbox.

use thiserror::Error;

/// Where a sandbox is in its life, see the [crate] for the diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Booting,
    Ready,
    /// The VM is gone although nobody asked for it.
    Failed {
        why: String,
    },
    Ending {
        reason: EndReason,
    },
    Gone {
        reason: EndReason,
    },
}

/// Why a sandbox ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its client asked for it.
    Deleted,
    /// Its client went away before it learned the id.
    Abandoned,
    BootFailed,
    /// The host daemon stops.
    Shutdown,
}

/// One sandbox's phase and its runs.
#[derive(Clone, Debug)]
pub struct Machine {
    phase: Phase,
    runs: u32,
    runs_max: u32,
}

/// Why a run is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunRefused {
    #[error("the sandbox is still booting")]
    Booting,
    #[error("{max} runs are in progress or queued in this sandbox already")]
    TooMany { max: u32 },
    #[error("the sandbox has failed: {why}")]
    Failed { why: String },
    #[error("the sandbox has ended")]
    Ended { reason: EndReason },
}

/// A transition that makes no sense from where the sandbox is; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a sandbox cannot become {to} from {from:?}")]
pub struct TransitionRefused {
    pub from: Phase,
    pub to: &'static str,
}

impl Machine {
    /// A sandbox that boots. At most `runs_max` runs are in progress or queued at once.
    #[must_use]
    pub fn new(runs_max: u32) -> Self {
        Self {
            phase: Phase::Booting,
            runs: 0,
            runs_max,
        }
    }

    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Runs in progress or queued.
    #[must_use]
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// Accepts a run; each accepted run is ended by one [`Self::end_run`], whatever becomes of the sandbox meanwhile.
    ///
    /// # Errors
    /// The sandbox is not ready, or has too many runs.
    pub fn begin_run(&mut self) -> Result<(), RunRefused> {
        match &self.phase {
            Phase::Ready if self.runs < self.runs_max => {
                self.runs += 1;
                Ok(())
            }
            Phase::Ready => Err(RunRefused::TooMany { max: self.runs_max }),
            Phase::Booting => Err(RunRefused::Booting),
            Phase::Failed { why } => Err(RunRefused::Failed { why: why.clone() }),
            Phase::Ending { reason } | Phase::Gone { reason } => Err(RunRefused::Ended { reason: *reason }),
        }
    }

    pub fn end_run(&mut self) {
        self.runs = self.runs.saturating_sub(1);
    }

    /// The VM's agent has answered and knows who it is.
    ///
    /// # Errors
    /// The sandbox does not boot (any more).
    pub fn booted(&mut self) -> Result<(), TransitionRefused> {
        match self.phase {
            Phase::Booting => {
                self.phase = Phase::Ready;
                Ok(())
            }
            _ => Err(self.refuse("ready")),
        }
    }

    /// The VM is gone unasked. Only a ready sandbox fails; later news of the same kind changes nothing.
    ///
    /// # Errors
    /// The sandbox is not ready.
    pub fn fail(&mut self, why: String) -> Result<(), TransitionRefused> {
        match self.phase {
            Phase::Ready => {
                self.phase = Phase::Failed { why };
                Ok(())
            }
            _ => Err(self.refuse("failed")),
        }
    }

    /// Begins the end. The first reason stays: true when this was the first.
    pub fn end(&mut self, reason: EndReason) -> bool {
        match self.phase {
            Phase::Booting | Phase::Ready | Phase::Failed { .. } => {
                self.phase = Phase::Ending { reason };
                true
            }
            Phase::Ending { .. } | Phase::Gone { .. } => false,
        }
    }

    /// Everything the sandbox had has been given back.
    ///
    /// # Errors
    /// It was not ending.
    pub fn gone(&mut self) -> Result<(), TransitionRefused> {
        match self.phase {
            Phase::Ending { reason } => {
                self.phase = Phase::Gone { reason };
                Ok(())
            }
            _ => Err(self.refuse("gone")),
        }
    }

    fn refuse(&self, to: &'static str) -> TransitionRefused {
        TransitionRefused {
            from: self.phase.clone(),
            to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        BeginRun,
        EndRun,
        Booted,
        Fail(String),
        End(EndReason),
        Gone,
    }

    fn step() -> impl Strategy<Value = Step> {
        let reason = prop_oneof![
            Just(EndReason::Deleted),
            Just(EndReason::Abandoned),
            Just(EndReason::BootFailed),
            Just(EndReason::Shutdown)
        ];
        prop_oneof![
            8 => Just(Step::BeginRun),
            4 => Just(Step::EndRun),
            3 => Just(Step::Booted),
            1 => "[a-z]{0,4}".prop_map(Step::Fail),
            1 => reason.prop_map(Step::End),
            1 => Just(Step::Gone),
        ]
    }

    /// Position along the diagram; no step ever lowers it.
    fn rank(phase: &Phase) -> u8 {
        match phase {
            Phase::Booting => 0,
            Phase::Ready => 1,
            Phase::Failed { .. } => 2,
            Phase::Ending { .. } => 3,
            Phase::Gone { .. } => 4,
        }
    }

    proptest! {
        #[test]
        fn no_sequence_of_steps_breaks_the_invariants(
            runs_max in 1..5_u32, steps in proptest::collection::vec(step(), 0..60)
        ) {
            let mut machine = Machine::new(runs_max);
            let mut accepted = 0_u32;
            for step in steps {
                let before = machine.clone();
                match step {
                    Step::BeginRun => {
                        let outcome = machine.begin_run();
                        let room = accepted < runs_max;
                        prop_assert_eq!(outcome.is_ok(), room && before.phase == Phase::Ready);
                        accepted += u32::from(outcome.is_ok());
                    }
                    // The host ends only runs it began: a ticket is dropped once.
                    Step::EndRun if accepted > 0 => {
                        machine.end_run();
                        accepted -= 1;
                    }
                    Step::EndRun => {}
                    Step::Booted => drop(machine.booted()),
                    Step::Fail(why) => drop(machine.fail(why)),
                    Step::End(reason) => {
                        let first = machine.end(reason);
                        prop_assert_eq!(first, rank(&before.phase) < 3);
                    }
                    Step::Gone => drop(machine.gone()),
                }
                prop_assert_eq!(machine.runs(), accepted);
                prop_assert!(rank(machine.phase()) >= rank(&before.phase));
                if let (Phase::Ending { reason: was }, Phase::Ending { reason: is } | Phase::Gone { reason: is }) =
                    (&before.phase, machine.phase())
                {
                    prop_assert_eq!(was, is);
                }
                if rank(&before.phase) == rank(machine.phase()) {
                    prop_assert_eq!(&before.phase, machine.phase());
                }
            }
        }
    }

    #[test]
    fn a_failed_sandbox_says_why_until_it_is_deleted() {
        let mut machine = Machine::new(1);
        machine.booted().unwrap();
        machine.fail("kernel panic".to_owned()).unwrap();
        machine.fail("later news".to_owned()).unwrap_err();
        let why = "kernel panic".to_owned();
        assert_eq!(machine.begin_run(), Err(RunRefused::Failed { why }));
        assert!(machine.end(EndReason::Deleted));
        let reason = EndReason::Deleted;
        assert_eq!(machine.begin_run(), Err(RunRefused::Ended { reason }));
    }

    #[test]
    fn a_sandbox_that_ends_while_it_boots_never_becomes_ready() {
        let mut machine = Machine::new(1);
        machine.end(EndReason::Abandoned);
        machine.booted().unwrap_err();
    }
}

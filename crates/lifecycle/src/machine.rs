//! The state machine of one sandbox.

use thiserror::Error;

use crate::Expiry;

/// Forks of one sandbox that may be in progress at once. Each is over in a moment; a caller with more than this many
/// is out of order.
pub const FORKS_MAX: u32 = 16;

/// Where a sandbox is in its life, see the [crate] for the diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Booting,
    Ready,
    /// Its VM stands still and is written to disk. Then it ends, or is ready again.
    Freezing,
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
    /// Another sandbox has taken its place under its id.
    Merged,
    /// Its client went away before it learned the id.
    Abandoned,
    BootFailed,
    /// One of its two times has run out.
    Expired(Expiry),
    /// Under its id there is again what it was at a checkpoint.
    RolledBack,
    /// The host daemon stops.
    Shutdown,
    /// It lives on in files, under another name.
    Frozen,
}

/// One sandbox's phase and its runs.
#[derive(Clone, Debug)]
pub struct Machine {
    phase: Phase,
    runs: u32,
    runs_max: u32,
    forks: u32,
}

/// Why a run is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RunRefused {
    #[error("the sandbox is still booting")]
    Booting,
    #[error("the sandbox is being frozen")]
    Freezing,
    #[error("{max} runs are in progress or queued in this sandbox already")]
    TooMany { max: u32 },
    #[error("{max} runs of this tenant are in progress or queued already")]
    TenantTooMany { max: u64 },
    #[error("the sandbox has failed: {why}")]
    Failed { why: String },
    #[error("the sandbox has ended")]
    Ended { reason: EndReason },
}

/// Why a sandbox is not forked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ForkRefused {
    #[error("the sandbox is still booting")]
    Booting,
    #[error("the sandbox is being frozen")]
    Freezing,
    #[error("{FORKS_MAX} forks of this sandbox are in progress already")]
    TooMany,
    #[error("the sandbox has failed: {why}")]
    Failed { why: String },
    #[error("the sandbox has ended")]
    Ended { reason: EndReason },
}

/// Why one sandbox does not take the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MergeRefused {
    #[error("a sandbox cannot be merged into itself")]
    Itself,
    #[error("the sandbox is still booting")]
    Booting,
    #[error("the sandbox is being frozen")]
    Freezing,
    #[error("the winner has failed: {why}")]
    WinnerFailed { why: String },
    #[error("the sandbox to merge into has ended")]
    LoserEnded,
    #[error("the winner has ended")]
    WinnerEnded,
}

/// Why a sandbox is not frozen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FreezeRefused {
    #[error("the sandbox is still booting")]
    Booting,
    #[error("the sandbox is being frozen already")]
    Freezing,
    #[error("the sandbox is being forked")]
    Forking,
    #[error("the sandbox is in use")]
    InUse,
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
            forks: 0,
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
            Phase::Freezing => Err(RunRefused::Freezing),
            Phase::Failed { why } => Err(RunRefused::Failed { why: why.clone() }),
            Phase::Ending { reason } | Phase::Gone { reason } => Err(RunRefused::Ended { reason: *reason }),
        }
    }

    pub fn end_run(&mut self) {
        self.runs = self.runs.saturating_sub(1);
    }

    /// Accepts a fork; each accepted fork is ended by one [`Self::end_fork`]. Runs go on and are accepted meanwhile, and
    /// the sandbox may end: clones that have been made by then live on.
    ///
    /// # Errors
    /// The sandbox is not ready, or has too many forks.
    pub fn begin_fork(&mut self) -> Result<(), ForkRefused> {
        match &self.phase {
            Phase::Ready if self.forks < FORKS_MAX => {
                self.forks += 1;
                Ok(())
            }
            Phase::Ready => Err(ForkRefused::TooMany),
            Phase::Booting => Err(ForkRefused::Booting),
            Phase::Freezing => Err(ForkRefused::Freezing),
            Phase::Failed { why } => Err(ForkRefused::Failed { why: why.clone() }),
            Phase::Ending { reason } | Phase::Gone { reason } => Err(ForkRefused::Ended { reason: *reason }),
        }
    }

    pub fn end_fork(&mut self) {
        self.forks = self.forks.saturating_sub(1);
    }

    /// Whether the VM of `winner` may take the place of this sandbox's. A sandbox that has failed may be saved this
    /// way; one that has failed saves nobody. Runs and forks in progress hinder neither side.
    ///
    /// # Errors
    /// One of them is not there yet, or not any more.
    pub fn may_yield_to(&self, winner: &Self) -> Result<(), MergeRefused> {
        match &self.phase {
            Phase::Ready | Phase::Failed { .. } => {}
            Phase::Booting => return Err(MergeRefused::Booting),
            Phase::Freezing => return Err(MergeRefused::Freezing),
            Phase::Ending { .. } | Phase::Gone { .. } => return Err(MergeRefused::LoserEnded),
        }
        match &winner.phase {
            Phase::Ready => Ok(()),
            Phase::Booting => Err(MergeRefused::Booting),
            Phase::Freezing => Err(MergeRefused::Freezing),
            Phase::Failed { why } => Err(MergeRefused::WinnerFailed { why: why.clone() }),
            Phase::Ending { .. } | Phase::Gone { .. } => Err(MergeRefused::WinnerEnded),
        }
    }

    /// Whether an earlier state may take its place. One that has failed may be saved this way.
    ///
    /// # Errors
    /// It is not there yet, or not any more.
    pub fn may_roll_back(&self) -> Result<(), ForkRefused> {
        match &self.phase {
            Phase::Ready | Phase::Failed { .. } => Ok(()),
            Phase::Booting => Err(ForkRefused::Booting),
            Phase::Freezing => Err(ForkRefused::Freezing),
            Phase::Ending { reason } | Phase::Gone { reason } => Err(ForkRefused::Ended { reason: *reason }),
        }
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

    /// Begins to freeze. Runs in progress go on when it is resumed; nothing new is accepted. It ends with
    /// [`Self::end`], or with [`Self::not_frozen`].
    ///
    /// # Errors
    /// The sandbox is not ready, or is being forked.
    pub fn begin_freeze(&mut self) -> Result<(), FreezeRefused> {
        match &self.phase {
            Phase::Ready if self.forks > 0 => Err(FreezeRefused::Forking),
            Phase::Ready => {
                self.phase = Phase::Freezing;
                Ok(())
            }
            Phase::Booting => Err(FreezeRefused::Booting),
            Phase::Freezing => Err(FreezeRefused::Freezing),
            Phase::Failed { why } => Err(FreezeRefused::Failed { why: why.clone() }),
            Phase::Ending { reason } | Phase::Gone { reason } => {
                Err(FreezeRefused::Ended { reason: *reason })
            }
        }
    }

    /// The same, unless something is in progress that somebody waits for.
    ///
    /// # Errors
    /// As of [`Self::begin_freeze`], or it is in use.
    pub fn begin_freeze_unless_used(&mut self) -> Result<(), FreezeRefused> {
        if self.runs > 0 {
            return Err(FreezeRefused::InUse);
        }
        self.begin_freeze()
    }

    /// It was not frozen and goes on, unless it has failed or been ended meanwhile: true when it goes on.
    pub fn not_frozen(&mut self) -> bool {
        let goes_on = self.phase == Phase::Freezing;
        if goes_on {
            self.phase = Phase::Ready;
        }
        goes_on
    }

    /// The VM is gone unasked. Only a ready sandbox fails, or one that is being frozen; later news of the same kind changes nothing.
    ///
    /// # Errors
    /// The sandbox is not ready.
    pub fn fail(&mut self, why: String) -> Result<(), TransitionRefused> {
        match self.phase {
            Phase::Ready | Phase::Freezing => {
                self.phase = Phase::Failed { why };
                Ok(())
            }
            _ => Err(self.refuse("failed")),
        }
    }

    /// Begins the end. The first reason stays: true when this was the first.
    pub fn end(&mut self, reason: EndReason) -> bool {
        match self.phase {
            Phase::Booting | Phase::Ready | Phase::Freezing | Phase::Failed { .. } => {
                self.phase = Phase::Ending { reason };
                true
            }
            Phase::Ending { .. } | Phase::Gone { .. } => false,
        }
    }

    /// Begins the end unless something is in progress: true when it does. So whoever comes at the same moment is either
    /// served or refused, and never cut off.
    pub fn end_unless_used(&mut self, reason: EndReason) -> bool {
        !self.is_used() && self.end(reason)
    }

    /// Begins the end, used or not, but for one that is being frozen: whoever keeps it comes first.
    pub fn end_unless_freezing(&mut self, reason: EndReason) -> bool {
        self.phase != Phase::Freezing && self.end(reason)
    }

    /// Whether something is in progress that somebody waits for.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.runs > 0 || self.forks > 0 || matches!(self.phase, Phase::Booting | Phase::Freezing)
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
mod tests;

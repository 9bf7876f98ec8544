//! One run: from its start to the reply `Exit`.
//!
//! ```text
//!            ┌────────── output ──────────┐
//!   process ─┤ stdout pipe, stderr pipe   ├─► pump ─► connection
//!            └ ended: message or pidfd ───┘     │
//!                                               ├─ silence or output: go on
//!                                               ├─ timeout, or the host went away: [`patience`]
//!                                               └─ ended: what the pipes hold now, then the exit code
//! ```
//!
//! The end of a run is the end of its main process, or the REPL's word, and not the end of its pipes: background
//! processes may hold those for as long as they like.

mod output;
mod patience;
mod pump;

pub(crate) use output::{Output, Writers};
pub(crate) use pump::{Limits, pump};

use std::os::fd::BorrowedFd;

use crate::children::Ended;

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was carried out and has this exit code.
    Code(i32),
    /// The long-lived process it ran in is gone.
    Lost(Ended),
}

/// What the pump drives: a run in the REPL, or a bash process.
pub(crate) trait Job {
    /// Descriptors that become readable when [`Self::ended`] may have something to say.
    fn watched(&self) -> [Option<BorrowedFd<'_>>; 2];
    /// Whether the run has ended; never blocks.
    fn ended(&mut self) -> Option<End>;
    /// Asks it to stop, as Ctrl-C does.
    fn interrupt(&mut self);
    /// Kills the processes it has started, sparing the interpreter with the state.
    fn kill_children(&mut self);
    /// Kills everything.
    fn kill(&mut self);
}

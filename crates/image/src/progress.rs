//! How long work tells what it is doing, without knowing whether a spinner or a log shows it.

use std::fmt::Debug;

/// Receives the steps of a build. A terminal shows them as a spinner with the elapsed time, a log as lines.
pub trait Progress: Send + Sync + Debug {
    /// A new step begins, e.g. `building the root file system`; the step before it, if any, has ended.
    fn step(&self, text: &str);

    /// What the current step is at just now; may come often and may be dropped.
    fn detail(&self, _text: &str) {}

    /// Something worth reading that does not stop the work.
    fn warn(&self, text: &str);

    /// The current step has ended well, with what came of it.
    fn done(&self, text: &str);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _text: &str) {}
    fn warn(&self, _text: &str) {}
    fn done(&self, _text: &str) {}
}

//! Work that gives way to the user's.

use rustix::process::{getpriority_process, setpriority_process};

/// Of nineteen. A process of the user's gets twice as much of the processor, as long as it wants it: the answer is for the
/// user too.
const NICENESS: i32 = 3;

/// Lowers this thread's priority until it is dropped. Without the privilege to raise it again, which the agent of a
/// guest has, it stays low.
#[derive(Debug)]
pub(super) struct Gentle {
    before: i32,
}

impl Gentle {
    pub(super) fn new() -> Self {
        // Linux takes "this process" to mean this thread.
        let before = getpriority_process(None).unwrap_or(0);
        let _ = setpriority_process(None, NICENESS.max(before));
        Self { before }
    }
}

impl Drop for Gentle {
    fn drop(&mut self) {
        let _ = setpriority_process(None, self.before);
    }
}

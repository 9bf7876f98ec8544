//! A run in the REPL, as the pump sees it.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::process::Process;
use crate::processes::Tick;
use crate::run::{End, Job};

/// Code that the driver has been given.
#[derive(Debug)]
pub(crate) struct ReplRun {
    process: Arc<Process>,
    number: u32,
    started: Tick,
}

impl ReplRun {
    pub(super) fn new(process: Arc<Process>, number: u32) -> Self {
        Self {
            process,
            number,
            started: Tick::now(),
        }
    }
}

impl Job for ReplRun {
    fn watched(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.process.watched().map(Some)
    }

    fn ended(&mut self) -> Option<End> {
        if let Some(answer) = self.process.answer() {
            if answer.number == self.number {
                return Some(End::Code(answer.code));
            }
            // Only user code that writes to the driver's socket can do this; a driver out of step is of no use.
            self.process.kill();
        }
        if self.process.has_ended() {
            self.process.abandon();
            return Some(End::Lost(self.process.wait()));
        }
        if self.process.is_deaf() {
            self.process.kill();
            return Some(End::Lost(self.process.wait()));
        }
        None
    }

    fn interrupt(&mut self) {
        self.process.interrupt(self.started);
    }

    fn kill_children(&mut self) {
        self.process.kill_children(self.started);
    }

    fn kill(&mut self) {
        self.process.kill();
    }
}

//! `podflare down`.

use serde::Serialize;
use softhost::Stopped;

use crate::commands::up;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, Steps};

/// Stop the host on this machine, and its sandboxes with it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Report {
    /// Whether anything had to be stopped.
    was_running: bool,
    /// Whether it ended in order, so that everything it wrote is on its disk.
    in_order: bool,
    #[serde(skip)]
    words: &'static str,
}

pub(crate) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let directories = context.directories()?;
    if !directories.run.exists() {
        context.printer.show(&Report::of(Stopped::NothingRan))?;
        return Ok(Exit::Ok);
    }
    let steps = Steps::new(context.printer);
    steps.begin("stopping the host");
    let stopped = up::stop(&directories)?;
    steps.abandon();
    context.printer.show(&Report::of(stopped))?;
    Ok(Exit::Ok)
}

impl Report {
    fn of(stopped: Stopped) -> Self {
        let (was_running, in_order, words) = match stopped {
            Stopped::NothingRan => (false, true, "no host is running"),
            Stopped::InOrder => (true, true, "the host is down"),
            Stopped::Orphans(_) => (true, false, "a host that had lost its supervisor is down"),
            Stopped::ByForce => (true, false, "the host did not stop when asked and was killed"),
        };
        Self {
            was_running,
            in_order,
            words,
        }
    }
}

impl Show for Report {
    fn words(&self, _: Paint) -> String {
        self.words.to_owned()
    }
}

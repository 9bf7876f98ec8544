//! `podflare restart`.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, Steps, duration};

const AFTER_HELP: &str = "\
Sandboxes, their variables, processes, files and terminals stay as they are, and what runs goes on. Calls
in progress are cut off: `podflare sandbox` and the API give what a run has said meanwhile as its replay, and
terminals are attached to again. On hardware virtualization the program that is started is the one on the
disk by then, which is how podflare-hostd is upgraded; a software host has its programs from its own start.

Examples:
  podflare restart                      another daemon, the same sandboxes
  podflare down && podflare up          another machine, without its sandboxes";

/// Put another host daemon in the place of the one that runs; its sandboxes go on
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// How long the next daemon may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout_seconds: u64,
}

#[derive(Serialize)]
struct Report {
    /// From the request until the next daemon answered.
    took_ms: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let directories = context.directories()?;
    let steps = Steps::new(context.printer);
    steps.begin("handing over to another daemon");
    let started = Instant::now();
    softhost::restart(&directories.run, Duration::from_secs(args.timeout_seconds)).map_err(|error| {
        Failure::because("restart", &error).hint("`podflare status` says what runs, `podflare logs` why")
    })?;
    steps.abandon();
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    context.printer.show(&Report { took_ms })?;
    Ok(Exit::Ok)
}

impl Show for Report {
    fn words(&self, _: Paint) -> String {
        let took = duration(Duration::from_millis(self.took_ms));
        format!("another daemon answers, after {took}; the sandboxes are what they were")
    }
}

//! `podflare top`: what a host does, live.

mod sample;
mod screen;
mod view;

use std::io::{IsTerminal as _, stdout};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Form, Paint, Show as _};

use sample::Sample;
use screen::Screen;
use view::View;

const EXAMPLES: &str = "\
Examples:
  podflare top                  until Ctrl-C, on a terminal
  podflare top --once           one table, after a second of looking
  podflare top --sort memory    what has the most memory comes first
  podflare top --json | jq '.sandboxes[] | select(.cpu_percent > 50).id'";

/// Watch sandboxes, pools and memory of a host
///
/// CPU and memory are those of each VM's process on the host. OWN is memory that no file backs: what the VM has written
/// to; the rest it shares with others of its template. Without a terminal, or with --json, it looks for one interval,
/// prints once and ends.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print once and end
    #[arg(long)]
    once: bool,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,

    /// What comes first
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    sort: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    Cpu,
    Memory,
    Runs,
    Age,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    let interval = Duration::from_secs(args.interval);
    let mut before = Sample::take(&client)?;
    let live = !args.once && context.printer.form() == Form::Words && stdout().is_terminal();
    if !live {
        thread::sleep(interval);
        let now = Sample::take(&client)?;
        context.printer.show(&View::between(&before, &now, args.sort))?;
        return Ok(Exit::Ok);
    }
    let paint = Paint::for_stream(&stdout());
    let screen = Screen::open(context)?;
    loop {
        thread::sleep(interval);
        let now = Sample::take(&client)?;
        let view = View::between(&before, &now, args.sort);
        screen.show(client.url(), &view.words(paint))?;
        before = now;
    }
}

//! `podflare logs`: what the host, its supervisor or a sandbox's console says.

use std::io;
use std::thread;
use std::time::Duration;

use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{Follower, last_lines, news, printable};
use crate::settings::{CONSOLE, SUPERVISOR_LOG};

/// How often a followed log is looked at: a file costs nothing, a console a request.
const FILE_POLL: Duration = Duration::from_millis(250);
const CONSOLE_POLL: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  podflare logs                  the last lines of the host's log
  podflare logs -f               and everything from now on
  podflare logs --supervisor     what the process that watches the host says
  podflare logs ID               the serial console of a sandbox: its kernel and agent";

/// Show what the host or a sandbox says
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A sandbox, to see its console
    #[arg(value_name = "ID", conflicts_with = "supervisor")]
    id: Option<SandboxId>,

    /// Go on until interrupted
    #[arg(long, short)]
    follow: bool,

    /// Start with this many lines
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 200)]
    lines: usize,

    /// Show the supervisor's log instead
    #[arg(long)]
    supervisor: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match args.id {
        Some(id) => console(context, id, &args)?,
        None => host_log(context, &args)?,
    }
    Ok(Exit::Ok)
}

fn host_log(context: &Context, args: &Args) -> Result<(), Failure> {
    let run = context.directories()?.run;
    let path = run.join(if args.supervisor { SUPERVISOR_LOG } else { CONSOLE });
    let mut follower = Follower::at_last_lines(&path, args.lines).map_err(|error| {
        let failure = Failure::while_doing("no_log", &format!("cannot read {}", path.display()), &error);
        match error.kind() {
            io::ErrorKind::NotFound => failure.hint("no host has run yet; start one with `podflare up`"),
            _ => failure,
        }
    })?;
    loop {
        let bytes = follower.read()?;
        context.printer.out(printable(&bytes).as_bytes())?;
        if !args.follow {
            return Ok(());
        }
        if bytes.is_empty() {
            thread::sleep(FILE_POLL);
        }
    }
}

fn console(context: &Context, id: SandboxId, args: &Args) -> Result<(), Failure> {
    let client = context.client()?;
    let mut shown = client.console(id)?;
    let start = last_lines(shown.as_bytes(), args.lines);
    context
        .printer
        .out(printable(&shown.as_bytes()[start..]).as_bytes())?;
    if !args.follow {
        return Ok(());
    }
    loop {
        thread::sleep(CONSOLE_POLL);
        let now = client.console(id)?;
        context
            .printer
            .out(printable(news(&shown, &now).as_bytes()).as_bytes())?;
        shown = now;
    }
}

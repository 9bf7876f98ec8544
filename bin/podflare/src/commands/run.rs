//! `podflare run`: code in a fresh sandbox that is gone afterwards.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use client::Client;
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Printer, duration};
use crate::source::SourceArgs;
use crate::streaming;

/// How long an interrupted command waits to hear the name of the sandbox it has asked for, so as to remove it.
const CREATION_PATIENCE: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  podflare run -c 'print(6 * 7)'
  podflare run script.py one --two        the script sees its arguments in sys.argv
  podflare run --bash -c 'uname -a'
  echo 'print(1)' | podflare run -
  podflare run --template default --ram-mib 2048 --verbose script.py
  podflare run --egress off script.py     it reaches nothing

The exit code is that of the code; 125 means that Podflare could not run it.
Ctrl-C interrupts the code and removes the sandbox.";

/// Run code in a fresh microVM, stream its output, and remove the microVM
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    shape: super::sandbox::ShapeArgs,

    /// Do not remove the sandbox afterwards
    #[arg(long)]
    keep: bool,

    /// Say on stderr how long each step took
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let source = args.source.read()?;
    let client = context.client()?;
    let printer = &context.printer;
    let times = Times {
        printer,
        on: args.verbose,
    };

    // From here on an interrupt may come while the host already makes a sandbox whose name is not known yet.
    let (tell, told) = mpsc::channel();
    let remover = client.clone();
    let armed = (!args.keep).then(|| {
        context
            .interrupts
            .on_interrupt(move || remove_when_known(&remover, &told))
    });

    let start = Instant::now();
    let id = client.create(&args.shape.request())?.id;
    // Nobody listens when the sandbox is to be kept.
    let _ = tell.send(id);
    times.say("create", start);

    let start = Instant::now();
    let outcome = streaming::execute(&client, id, source, printer);
    times.say("run", start);

    let start = Instant::now();
    let removed = if args.keep { Ok(()) } else { client.delete(id) };
    drop(armed);
    if args.keep {
        printer.note(&format!("kept {id}; remove it with `podflare sandbox rm {id}`"));
    } else {
        times.say("remove", start);
    }
    match (outcome, removed) {
        (Ok(exit), Ok(())) => Ok(exit),
        (Ok(exit), Err(error)) => {
            // The code has run, and its exit code is what the caller wants; the leftover is worth a word.
            context.interrupts.settle();
            printer.warn(&format!(
                "{id} could not be removed: {}",
                pod_types::ErrorChain(&error)
            ));
            Ok(exit)
        }
        (Err(failure), _) => Err(failure),
    }
}

/// Runs on the thread that waits for signals.
fn remove_when_known(client: &Client, told: &mpsc::Receiver<SandboxId>) {
    if let Ok(id) = told.recv_timeout(CREATION_PATIENCE) {
        // The process ends right after this, and the host's own limits remove what cannot be removed now.
        let _ = client.delete(id);
    }
}

/// Tells how long the steps took, when asked to.
struct Times<'a> {
    printer: &'a Printer,
    on: bool,
}

impl Times<'_> {
    fn say(&self, step: &str, since: Instant) {
        if self.on {
            let took = duration(since.elapsed());
            self.printer
                .note(&self.printer.err_paint().dim(&format!("{step:>6} {took}")));
        }
    }
}

//! `podflare machine capture`: the packets that leave and enter the software host.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use softhost::{Capture, CaptureError, MonitorError};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// How often the size of the file and the time are looked at.
const POLL: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Ctrl-C ends a capture early; the file is whole then, too. A sandbox's packets are
found by where they go: they leave from the machine's address.

Examples:
  podflare machine capture all.pcap --seconds 30
  podflare machine capture heads.pcap --packet-bytes 96 && tcpdump -nr heads.pcap
  tshark -r all.pcap -Y 'dns or ip.dst == 203.0.113.9'";

/// Write what leaves and enters the software host to a file, as `tcpdump -w` does
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A pcap file, which is replaced; only you may read it
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// End after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,

    /// End when the file has this size
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    mib: u64,

    /// Of each packet only the first bytes
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    packet_bytes: u32,
}

/// What the command did.
#[derive(Serialize)]
struct Done {
    file: PathBuf,
    bytes: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let run_dir = context.directories()?.run;
    let capture = Capture::start(&run_dir, &args.file, args.packet_bytes).map_err(|error| failure(&error))?;
    let capture = Arc::new(capture);
    let at_interrupt = Arc::clone(&capture);
    let armed = context.interrupts.on_interrupt(move || {
        // The process ends after this, and nobody would read why it could not.
        let _ = at_interrupt.stop();
    });
    context
        .printer
        .hint(&format!("capturing to {}", args.file.display()));
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let bytes_max = args.mib << 20;
    while Instant::now() < deadline && capture.bytes().map_err(|error| failure(&error))? < bytes_max {
        thread::sleep(POLL);
    }
    capture.stop().map_err(|error| failure(&error))?;
    drop(armed);
    context.printer.show(&Done {
        file: args.file.clone(),
        bytes: capture.bytes().map_err(|error| failure(&error))?,
    })?;
    Ok(Exit::Ok)
}

fn failure(error: &CaptureError) -> Failure {
    let failure = Failure::because("machine", error);
    match error {
        CaptureError::Monitor(MonitorError::Connect(_)) => failure.hint(
            "only a software host is a machine of its own, where one runs (`podflare status`); on hardware, \
             `tcpdump` sees what sandboxes send",
        ),
        _ => failure,
    }
}

impl Show for Done {
    fn words(&self, _: Paint) -> String {
        format!("{}: {} bytes", self.file.display(), self.bytes)
    }
}

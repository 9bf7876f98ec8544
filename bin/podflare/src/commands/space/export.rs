//! `podflare space export`.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read, Write as _};

use archive::{FileError, Staged};
use pod_types::SpaceId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{Form, Meter, Paint, Show};

const EXAMPLES: &str = "\
The file holds all that is needed to go on with the space on another host that has the same kind of CPU and the same
disk image of its template. It holds everything the sandbox had in memory and on its disk: keep it like a secret.
The space stays.

Examples:
  podflare space export ID -o work.space                        into a file, which is there when it is whole
  podflare space export ID > work.space                         into stdout
  podflare space export ID | ssh other podflare space import -  to another host";

/// Bytes moved at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Write a space to a file, for another host or for a shelf
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The space
    #[arg(value_name = "ID")]
    id: SpaceId,

    /// Where to; - is stdout
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: OsString,
}

/// What was written.
#[derive(Serialize)]
struct Exported {
    space: SpaceId,
    to: String,
    bytes: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let to = Location::parse(&args.output)?;
    match &to {
        Location::Stream if context.printer.form() == Form::Json => {
            return Err(Failure::usage("--json and the file cannot both go to stdout")
                .hint("name a file with -o FILE"));
        }
        Location::Stream if io::stdout().is_terminal() => {
            return Err(Failure::usage("a space is nothing for a terminal").hint("name a file with -o FILE"));
        }
        Location::Sandbox { .. } => return Err(Failure::usage("-o: expected a file here, or -")),
        _ => {}
    }
    // Before the file, so that a space that is not there leaves none.
    let file = context.client()?.export_space(args.id)?;
    let mut file = Meter::new(Box::new(file), None);
    match &to {
        Location::Local(path) => {
            let failed = |error: FileError| Failure::because("local_file", &error);
            let staged = Staged::begin(path, false).map_err(failed)?;
            let mut staged = staged.with_mode(Some(0o600)).with_sync(true);
            each_piece(&mut file, |piece| staged.write(piece).map_err(failed))?;
            staged.commit(|_| true).map_err(failed)?;
        }
        _ => {
            let mut stdout = io::stdout().lock();
            each_piece(&mut file, |piece| Ok(stdout.write_all(piece)?))?;
            stdout.flush()?;
            return Ok(Exit::Ok);
        }
    }
    context.printer.show(&Exported {
        space: args.id,
        to: to.to_string(),
        bytes: file.count(),
    })?;
    Ok(Exit::Ok)
}

fn each_piece(file: &mut Meter, mut call: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file
            .read(&mut piece)
            .map_err(|error| Failure::while_doing("transfer_broken", "the file broke off", &error))?;
        if count == 0 {
            return Ok(());
        }
        call(&piece[..count])?;
    }
}

impl Show for Exported {
    /// The file is there.
    fn words(&self, _: Paint) -> String {
        String::new()
    }
}

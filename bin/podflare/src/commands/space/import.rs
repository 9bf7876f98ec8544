//! `podflare space import`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};

use api::SpaceInfo;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{Meter, Paint, Show};

const EXAMPLES: &str = "\
The file is checked whole before the space is there. One that is damaged, or cannot go on on this host, is refused
with the reason.

Examples:
  podflare space import work.space              prints the id of the new space
  podflare space import - < work.space          from stdin
  podflare space resume $(podflare space import work.space)";

/// Make a space of a file that `podflare space export` has written, here or on another host
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file; - is stdin
    #[arg(value_name = "FILE")]
    file: OsString,
}

/// For people and shells alike: the id alone.
#[derive(Serialize)]
#[serde(transparent)]
struct Imported(SpaceInfo);

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let (file, size): (Box<dyn Read + Send>, _) = match Location::parse(&args.file)? {
        Location::Stream => (Box::new(io::stdin()), None),
        Location::Local(path) => {
            let what = format!("cannot read {}", path.display());
            let failed = |error: io::Error| Failure::while_doing("local_file", &what, &error);
            let file = File::open(&path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        }
        Location::Sandbox { .. } => return Err(Failure::usage("FILE: expected a file here, or -")),
    };
    let mut file = Meter::new(file, size);
    let space = context.client()?.import_space(size, &mut file)?;
    drop(file);
    context.printer.show(&Imported(space))?;
    Ok(Exit::Ok)
}

impl Show for Imported {
    fn words(&self, _: Paint) -> String {
        self.0.id.to_string()
    }
}

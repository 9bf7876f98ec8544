//! `podflare cp`: copies between this machine and sandboxes.
//!
//! Everything is opened as [cargo](cargo::Cargo) and then put where it belongs, so any source goes with any destination,
//! a sandbox to another among them. What a sandbox sends is written with the same care as what a client sends to a
//! sandbox: nothing leaves the destination, whatever names and links an archive has, and no set-id bits come through.

mod cargo;
mod deliver;

use std::ffi::OsString;

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{Form, Paint, Show};
use cargo::Cargo;

const EXAMPLES: &str = "\
A place is a path on this machine, SANDBOX:PATH (relative paths begin at /root), or - for stdin or stdout.
Directories are copied with all that is in them. If the destination is a directory, the copy goes into it under
the source's own name; `dir/.` means what is in the directory.

Examples:
  podflare cp data.csv sbx_…:                     to /root/data.csv
  podflare cp sbx_…:/var/log/app.log .            from there to here
  podflare cp project sbx_…:code                  a whole directory; becomes /root/code, or /root/code/project
  podflare cp sbx_…:out sbx_…:in                  from one sandbox to another
  tar c . | podflare cp - sbx_…:files.tar         from a pipe
  podflare cp sbx_…:result.json - | jq .          into a pipe";

/// Copy files and directories between this machine and sandboxes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to copy
    #[arg(value_name = "SOURCE")]
    from: OsString,

    /// Where to
    #[arg(value_name = "DESTINATION")]
    to: OsString,
}

/// What was copied.
#[derive(Serialize)]
struct Copied {
    from: String,
    to: String,
    /// Of content.
    bytes: u64,
    /// Files, directories and links of a tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let (from, to) = (Location::parse(&args.from)?, Location::parse(&args.to)?);
    if context.printer.form() == Form::Json && matches!(to, Location::Stream) {
        return Err(Failure::usage("--json and the content cannot both go to stdout"));
    }
    let needs_host = [&from, &to]
        .iter()
        .any(|place| matches!(place, Location::Sandbox { .. }));
    if !needs_host {
        let hint = "name a sandbox as SANDBOX:PATH; `podflare sandbox ls` lists them";
        return Err(Failure::usage("neither place is in a sandbox").hint(hint));
    }
    let client = context.client()?;
    let cargo = Cargo::open(&client, &from)?;
    let delivered = deliver::deliver(&client, cargo, &to)?;
    context.printer.show(&Copied {
        from: from.to_string(),
        to: delivered.to,
        bytes: delivered.bytes,
        entries: delivered.entries,
    })?;
    Ok(Exit::Ok)
}

impl Show for Copied {
    /// Like any `cp`: no news is good news.
    fn words(&self, _: Paint) -> String {
        String::new()
    }
}

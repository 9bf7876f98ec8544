//! `podflare sandbox ports`.

use api::{PortInfo, PortProcess};
use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, table};

/// List what listens in a sandbox
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,
}

#[derive(Serialize)]
struct Listing {
    ports: Vec<PortInfo>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let listing = Listing {
        ports: context.client()?.ports(args.id)?,
    };
    context.printer.show(&listing)?;
    if listing.ports.is_empty() {
        context.printer.hint("nothing listens in it");
    }
    Ok(Exit::Ok)
}

impl Show for Listing {
    fn words(&self, _: Paint) -> String {
        if self.ports.is_empty() {
            return String::new();
        }
        let mut rows = vec![["PORT", "ADDRESS", "PID", "COMMAND"].map(str::to_owned)];
        rows.extend(self.ports.iter().map(|listening| {
            let (pid, command) = match &listening.process {
                Some(PortProcess { pid, command }) => (pid.to_string(), shown(command)),
                None => ("-".to_owned(), "-".to_owned()),
            };
            [
                listening.port.to_string(),
                shown(&listening.address),
                pid,
                command,
            ]
        }));
        table(&rows)
    }
}

/// The sandbox's own words, with nothing in them that does something to a terminal.
fn shown(text: &str) -> String {
    archive::shown(text.as_bytes())
}

//! `podflare shell ID --list`.

use api::PtyInfo;
use client::Client;
use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::printable;
use crate::output::{Paint, Show, since, table};

#[derive(Serialize)]
struct Listing {
    terminals: Vec<PtyInfo>,
}

pub(super) fn run(context: &Context, client: &Client, id: SandboxId) -> Result<Exit, Failure> {
    let listing = Listing {
        terminals: client.pty_list(id)?,
    };
    context.printer.show(&listing)?;
    if listing.terminals.is_empty() {
        let hint = format!("there are none; `podflare shell {id}` opens one");
        context.printer.hint(&hint);
    }
    Ok(Exit::Ok)
}

impl Show for Listing {
    fn words(&self, _: Paint) -> String {
        if self.terminals.is_empty() {
            return String::new();
        }
        let mut rows = vec![["PTY", "STATE", "AGE", "PROGRAM"].map(str::to_owned)];
        rows.extend(self.terminals.iter().map(|terminal| {
            let state = terminal
                .exit_code
                .map_or_else(|| "running".to_owned(), |code| format!("exited {code}"));
            [
                terminal.pty_id.to_string(),
                state,
                since(terminal.created_at_ms),
                // The guest's words.
                printable(terminal.cmd_label.as_bytes()).replace(['\n', '\t'], " "),
            ]
        }));
        table(&rows)
    }
}

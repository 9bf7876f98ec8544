//! `podflare key ls`.

use api::{KeyInfo, KeyState};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since, table};

/// List keys, oldest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those of this tenant
    #[arg(long)]
    tenant: Option<String>,

    /// Also those that are not valid any more
    #[arg(long, short)]
    all: bool,
}

#[derive(Serialize)]
struct Listing {
    keys: Vec<KeyInfo>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut keys = context.operator()?.keys()?;
    let is_over = |key: &KeyInfo| matches!(key.state, KeyState::Expired | KeyState::Revoked);
    keys.retain(|key| (args.all || !is_over(key)) && args.tenant.as_ref().is_none_or(|of| *of == key.tenant));
    let none = keys.is_empty();
    context.printer.show(&Listing { keys })?;
    if none {
        context
            .printer
            .hint("there are none; `podflare key create` makes one");
    }
    Ok(Exit::Ok)
}

impl Show for Listing {
    fn words(&self, _: Paint) -> String {
        if self.keys.is_empty() {
            return String::new();
        }
        let mut rows =
            vec![["ID", "TENANT", "NAME", "ENDS IN", "STATE", "AGE", "LAST USED"].map(str::to_owned)];
        rows.extend(self.keys.iter().map(|key| {
            [
                key.id.clone(),
                key.tenant.clone(),
                key.name.clone(),
                if key.tail.is_empty() {
                    "-".to_owned()
                } else {
                    format!("…{}", key.tail)
                },
                state_name(key.state).to_owned(),
                since(key.created_at_ms),
                key.last_used_ms
                    .map_or_else(|| "never".to_owned(), |at| format!("{} ago", since(at))),
            ]
        }));
        table(&rows)
    }
}

pub(super) fn state_name(state: KeyState) -> &'static str {
    match state {
        KeyState::Valid => "valid",
        KeyState::Expiring => "expiring",
        KeyState::Expired => "expired",
        KeyState::Revoked => "revoked",
    }
}

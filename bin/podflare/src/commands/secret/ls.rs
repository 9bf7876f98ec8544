//! `podflare secret ls`.

use api::SecretList;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since, table};

/// List secrets, without their values
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let list = context.client()?.secrets()?;
    context.printer.show(&list)?;
    if list.secrets.is_empty() {
        context
            .printer
            .hint("there are none; `podflare secret set` keeps one");
    }
    Ok(Exit::Ok)
}

impl Show for SecretList {
    fn words(&self, _: Paint) -> String {
        if self.secrets.is_empty() {
            return String::new();
        }
        let head = ["NAME", "PLACEHOLDER", "HOSTS", "CHANGED"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.secrets.iter().map(|secret| {
            [
                secret.name.clone(),
                secret.placeholder.clone(),
                secret.hosts.join(", "),
                format!("{} ago", since(secret.changed_at_ms)),
            ]
        }));
        table(&rows)
    }
}

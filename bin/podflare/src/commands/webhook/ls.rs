//! `podflare webhook ls`.

use api::{WebhookInfo, WebhookList};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since, table};

/// List webhooks, oldest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &Context, _: &Args) -> Result<Exit, Failure> {
    let list = context.client()?.webhooks()?;
    let none = list.webhooks.is_empty();
    context.printer.show(&list)?;
    if none {
        context
            .printer
            .hint("there are none; `podflare webhook create URL` makes one");
    }
    Ok(Exit::Ok)
}

impl Show for WebhookList {
    fn words(&self, _: Paint) -> String {
        if self.webhooks.is_empty() {
            return String::new();
        }
        let mut rows = vec![["ID", "STATE", "WAITING", "LAST SUCCESS", "URL"].map(str::to_owned)];
        rows.extend(self.webhooks.iter().map(|hook| {
            [
                hook.id.clone(),
                state(hook).to_owned(),
                hook.pending.to_string(),
                hook.last_success_ms
                    .map_or_else(|| "never".to_owned(), |at| format!("{} ago", since(at))),
                hook.url.clone(),
            ]
        }));
        table(&rows)
    }
}

pub(super) fn state(hook: &WebhookInfo) -> &'static str {
    match (hook.enabled, hook.failing_since_ms) {
        (false, _) => "disabled",
        (true, Some(_)) => "failing",
        (true, None) => "ok",
    }
}

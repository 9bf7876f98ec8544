//! `podflare webhook show`.

use api::{WebhookEvent, WebhookInfo};

use super::ls::state;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since};

/// Show one webhook
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the webhook
    #[arg(value_name = "WEBHOOK")]
    id: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    context.printer.show(&context.client()?.webhook(&args.id)?)?;
    Ok(Exit::Ok)
}

impl Show for WebhookInfo {
    fn words(&self, _: Paint) -> String {
        let events: Vec<&str> = self.events.iter().map(|event| event.name()).collect();
        let events = if events.len() == WebhookEvent::ALL.len() {
            "everything".to_owned()
        } else {
            events.join(", ")
        };
        let ago = |at: u64| format!("{} ago", since(at));
        let mut lines = vec![
            ("id", self.id.clone()),
            ("url", self.url.clone()),
            ("state", state(self).to_owned()),
            ("events", events),
            ("waiting", self.pending.to_string()),
            ("created", ago(self.created_at_ms)),
            (
                "success",
                self.last_success_ms.map_or_else(|| "never".to_owned(), ago),
            ),
        ];
        if let Some(since) = self.failing_since_ms {
            lines.push(("failing", format!("since {}", ago(since))));
        }
        if let Some(why) = &self.disabled_reason {
            lines.push(("because", why.escape_debug().collect()));
        }
        if !self.description.is_empty() {
            lines.push(("about", self.description.escape_debug().collect()));
        }
        let lines = lines.iter().map(|(name, value)| format!("{name:<9}{value}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

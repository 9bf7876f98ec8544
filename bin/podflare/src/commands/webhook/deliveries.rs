//! `podflare webhook deliveries`.

use api::{AttemptInfo, DELIVERIES_LIMIT_MAX, DeliveryInfo, DeliveryList, DeliveryState};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since, table};

/// Show what was sent to a webhook and what came of it, newest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the webhook
    #[arg(value_name = "WEBHOOK")]
    id: String,

    /// How many deliveries
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=DELIVERIES_LIMIT_MAX))]
    limit: u64,

    /// Only deliveries older than this one
    #[arg(long, value_name = "DELIVERY")]
    before: Option<String>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    let page = client.deliveries(&args.id, args.limit, args.before.as_deref())?;
    context.printer.show(&page)?;
    if let Some(before) = &page.next_before {
        context
            .printer
            .hint(&format!("there are older ones: --before {before}"));
    }
    Ok(Exit::Ok)
}

impl Show for DeliveryList {
    fn words(&self, _: Paint) -> String {
        if self.deliveries.is_empty() {
            return String::new();
        }
        let head = ["DELIVERY", "AGO", "EVENT", "SANDBOX", "STATE", "TRIED", "LAST"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.deliveries.iter().map(|delivery| {
            let payload = &delivery.payload;
            [
                delivery.id.clone(),
                since(delivery.created_at_ms),
                payload.kind.clone(),
                payload
                    .sandbox_id
                    .map_or_else(|| "-".to_owned(), |id| id.to_string()),
                state_name(delivery.state).to_owned(),
                delivery.attempts.len().to_string(),
                delivery.attempts.last().map(outcome).unwrap_or_default(),
            ]
        }));
        table(&rows)
    }
}

impl Show for DeliveryInfo {
    fn words(&self, _: Paint) -> String {
        let last = self.attempts.last();
        let last = last.map_or_else(|| "waits to be sent".to_owned(), outcome);
        let mut text = format!(
            "{} {} is {}: {last}",
            self.payload.kind,
            self.id,
            state_name(self.state)
        );
        let answer = self.attempts.last().map_or("", |attempt| attempt.answer.as_str());
        if !answer.is_empty() {
            let answer: String = answer.escape_debug().collect();
            text += &format!("\nthe receiver answered: {answer}");
        }
        text
    }
}

fn state_name(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Failed => "failed",
    }
}

fn outcome(attempt: &AttemptInfo) -> String {
    let took = attempt.duration_ms;
    match (&attempt.error, attempt.status) {
        (Some(error), _) => format!("{} ({took} ms)", error.escape_debug()),
        (None, Some(status)) => format!("{status} ({took} ms)"),
        (None, None) => format!("({took} ms)"),
    }
}

//! Runs of code.

use std::time::Duration;

use agent_proto::Language;
use prometheus_client::metrics::counter::Counter;

use super::families::Families;
use super::histogram::{Histogram, LATENCY};

const LANGUAGES: [&str; 2] = ["python", "bash"];
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunOutcome {
    /// Exit code 0.
    Ok,
    /// Another exit code.
    Error,
    /// The agent would not.
    Refused,
    /// The VM or its agent went away.
    Lost,
    /// The client went away.
    Cancelled,
}

const OUTCOMES: [&str; 5] = ["ok", "error", "refused", "lost", "cancelled"];

#[derive(Debug)]
pub(crate) struct Runs {
    /// By language, then by outcome.
    ended: Vec<Vec<Counter>>,
    durations: Vec<Histogram>,
    pub(crate) queue: Histogram,
    pub(crate) first_reply: Histogram,
    pub(crate) code_bytes: Counter,
    output_bytes: Vec<Counter>,
}

impl Runs {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        Self {
            ended: families.counter_grid(
                "runs",
                "Runs that ended, by language and outcome",
                ("language", &LANGUAGES),
                ("outcome", &OUTCOMES),
            ),
            durations: families.histograms(
                "run_duration_seconds",
                "From a request to run code to the end of its output, by language",
                LATENCY,
                ("language", &LANGUAGES),
            ),
            queue: families.histogram(
                "run_queue_seconds",
                "How long runs waited for runs before them in the same sandbox",
                LATENCY,
            ),
            first_reply: families.histogram(
                "run_first_reply_seconds",
                "From a request to run code to the first that its guest answered",
                LATENCY,
            ),
            code_bytes: families.counter("run_code_bytes", "Bytes of code that was sent to guests"),
            output_bytes: families.counters(
                "run_output_bytes",
                "Bytes of output that guests have sent, by stream",
                ("stream", &STREAMS),
            ),
        }
    }

    pub(crate) fn ended(&self, language: Language, outcome: RunOutcome, took: Duration) {
        let index = match language {
            Language::Python => 0,
            Language::Bash => 1,
        };
        if let Some(count) = self
            .ended
            .get(index)
            .and_then(|counts| counts.get(outcome as usize))
        {
            count.inc();
        }
        if let Some(duration) = self.durations.get(index) {
            duration.observe(took);
        }
    }

    pub(crate) fn stdout(&self, bytes: usize) {
        self.output(0, bytes);
    }

    pub(crate) fn stderr(&self, bytes: usize) {
        self.output(1, bytes);
    }

    fn output(&self, stream: usize, bytes: usize) {
        if let Some(count) = self.output_bytes.get(stream) {
            count.inc_by(bytes as u64);
        }
    }
}

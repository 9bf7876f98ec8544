//! What is asked of the network process while somebody waits.

use std::time::Duration;

use net_proto::{Command, LogPage, NetStats, Outcome, WireId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Questions that may wait to be sent.
const WAITING_MAX: usize = 64;
/// How long an answer may take.
const BOUND: Duration = Duration::from_secs(5);

/// The way to the task that talks to the network process.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    asked: mpsc::Sender<Question>,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NetworkDown {
    #[error("the network process is not running; it is started again")]
    Gone,
    #[error("too many ask the network process at once")]
    Busy,
    #[error("the network process did not answer within {} s", BOUND.as_secs())]
    Silent,
    #[error("the network process would not: {0}")]
    Refused(String),
}

impl Questions {
    pub(super) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (asked, questions) = mpsc::channel(WAITING_MAX);
        (Self { asked }, questions)
    }

    /// A part of a wire's log. One that the network process does not know has none.
    pub(crate) async fn log(&self, wire: WireId, after: u64, max: u16) -> Result<LogPage, NetworkDown> {
        match self.ask(Command::Log { wire, after, max }).await? {
            Outcome::Log(page) => Ok(page),
            Outcome::NoWire => Ok(LogPage::default()),
            other => Err(unexpected(other)),
        }
    }

    /// What has gone over one wire, or over all.
    pub(crate) async fn stats(&self, wire: Option<WireId>) -> Result<NetStats, NetworkDown> {
        match self.ask(Command::Stats { wire }).await? {
            Outcome::Stats(stats) => Ok(stats),
            Outcome::NoWire => Ok(NetStats::default()),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, command: Command) -> Result<Outcome, NetworkDown> {
        let (answer, waits) = oneshot::channel();
        self.asked
            .try_send(Question { command, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NetworkDown::Busy,
                mpsc::error::TrySendError::Closed(_) => NetworkDown::Gone,
            })?;
        match timeout(BOUND, waits).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(NetworkDown::Gone),
            Err(_) => Err(NetworkDown::Silent),
        }
    }
}

fn unexpected(outcome: Outcome) -> NetworkDown {
    match outcome {
        Outcome::Failed(why) => NetworkDown::Refused(why),
        _ => NetworkDown::Refused("it answered something else than it was asked".to_owned()),
    }
}

//! What listens in a sandbox, from the host's side.
//!
//! ```text
//!  list ───▶ agent
//!  Tunnel ─▶ agent ─▶ the program: bytes both ways, each direction with its own end
//!  ShareKey, Grant .... who may use one port without a key, and for how long
//!  PortsDomain ........ which port of which sandbox a host name means
//! ```
//!
//! All of it goes through the agent, so it needs no network in the guest. A tunnel is a connection to the agent of its own
//! and a thread there; how many there are in one sandbox is bounded, and who comes too many waits for a moment. What moves
//! in a tunnel is a use of the sandbox, and counted; one in which nothing moves keeps nobody awake.

mod domain;
mod share;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use agent_proto::{FailureCode, LISTENING_MAX, PortReply, PortRequest, Reply};
use api::{PortInfo, PortProcess};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use domain::{NotADomain, PortsDomain};
pub(crate) use domain::{port_number, without_port};
pub(crate) use share::{Grant, NotGranted, ShareKey};
pub(crate) use tunnel::Tunnel;

use crate::agent::AgentError;
use crate::sandbox::Sandbox;

/// Connections to ports of one sandbox at once. The agent has a thread for each, beside those for everything else.
const TUNNELS_MAX: usize = 64;
/// How long one too many waits: a page asks for many things at once, each of which is soon over.
const TURN_BOUND: Duration = Duration::from_secs(10);
/// How long an agent may take to say what listens: it looks at all processes.
const LIST_BOUND: Duration = Duration::from_secs(25);
/// Longest name of a command that is passed on, in characters.
const COMMAND_CHARS_MAX: usize = 64;

/// How many connections there may be to the ports of one sandbox.
#[derive(Debug)]
pub(crate) struct PortSlots(Arc<Semaphore>);

#[derive(Debug, Error)]
pub(crate) enum PortError {
    #[error("{TUNNELS_MAX} connections to ports of this sandbox are open already")]
    TooMany,
    #[error("nothing listens on port {port} in the sandbox")]
    Refused { port: u16 },
    #[error("what listens on port {port} in the sandbox takes no connections")]
    NotTaken { port: u16 },
    /// In the agent's words.
    #[error("the sandbox's agent could not do it: {0}")]
    Failed(String),
    /// The VM is gone: why.
    #[error("{0}")]
    Lost(String),
    #[error("the sandbox's agent cannot be asked")]
    Agent(#[source] AgentError),
}

impl Default for PortSlots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TUNNELS_MAX)))
    }
}

impl PortSlots {
    async fn turn(&self) -> Result<OwnedSemaphorePermit, PortError> {
        match timeout(TURN_BOUND, Arc::clone(&self.0).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(PortError::TooMany),
        }
    }
}

/// What listens, as the guest tells it: by port, then by address.
pub(crate) async fn list(sandbox: &Sandbox) -> Result<Vec<PortInfo>, PortError> {
    let _turn = sandbox.ports.turn().await?;
    sandbox.touch();
    let answer = async {
        let mut connection = tunnel::send(sandbox, PortRequest::List).await?;
        let reply = connection.reply().await?;
        if connection.is_clean() {
            sandbox.keep_connection(connection);
        }
        Ok(reply)
    };
    match tunnel::within(LIST_BOUND, sandbox, answer).await? {
        Reply::Port(PortReply::Listening(list)) => {
            Ok(list.into_iter().take(LISTENING_MAX).map(info).collect())
        }
        Reply::Failed(failure) => Err(PortError::Failed(failure.message)),
        _ => Err(PortError::Agent(AgentError::Unexpected { expected: "List" })),
    }
}

/// Names are the guest's own choice: what would do something to a terminal is left out.
fn info(listening: agent_proto::Listening) -> PortInfo {
    let process = listening.process.map(|process| PortProcess {
        pid: process.pid,
        command: process
            .command
            .chars()
            .filter(|character| !character.is_control())
            .take(COMMAND_CHARS_MAX)
            .collect(),
    });
    PortInfo {
        port: listening.port,
        address: listening.address.to_string(),
        process,
    }
}

impl PortError {
    /// What an agent says that has not connected.
    fn of(failure: agent_proto::Failure, port: u16) -> Self {
        match failure.code {
            FailureCode::NotFound => Self::Refused { port },
            FailureCode::Busy => Self::NotTaken { port },
            FailureCode::BadRequest | FailureCode::Internal => Self::Failed(failure.message),
        }
    }
}

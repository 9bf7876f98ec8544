//! Terminals of a sandbox, from the host's side.
//!
//! The sessions are the guest's: they are copied with it, and what is here is only the way to them. Each stream holds
//! one connection to the agent, each short request one for a moment. Both are counted, so that followers cannot use
//! up the agent's connections, which runs need too. A client that goes away closes its connection and nothing else.

mod ask;
mod stream;

use std::sync::Arc;

use agent_proto::{FailureCode, PtyName, PtyRequest, PtySession, PtySize, Reply};
use api::{PtyCreateRequest, PtyInfo, PtyProgram, PtyReadAnswer, PtyReadRequest, PtyResizeRequest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pod_types::PtyId;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::agent::AgentError;
use crate::clock;
use crate::sandbox::Sandbox;

pub(crate) use stream::{PtyStream, StreamEvent};

/// Clients that follow terminals of one sandbox at once. The agent serves 256 connections, and runs may need 64.
const STREAMS_MAX: usize = 48;
/// Other requests about terminals of one sandbox at once.
const ASKS_MAX: usize = 32;

/// Most terminals in an answer of a guest: more than its agent ever lists.
const SESSIONS_MAX: usize = 1024;

/// How many clients may use a sandbox's terminals.
#[derive(Debug)]
pub(crate) struct PtySlots {
    streams: Arc<Semaphore>,
    asks: Semaphore,
}

#[derive(Debug, Error)]
pub(crate) enum PtyError {
    #[error("{STREAMS_MAX} clients follow terminals of this sandbox already")]
    TooManyStreams,
    #[error("{ASKS_MAX} requests about terminals of this sandbox are in progress already")]
    TooManyAsks,
    #[error("there is no such terminal in this sandbox")]
    NotFound,
    /// In the agent's words.
    #[error("{message}")]
    Refused { code: FailureCode, message: String },
    /// The VM is gone: why.
    #[error("{0}")]
    Lost(String),
    #[error("the sandbox's agent cannot be asked")]
    Agent(#[source] AgentError),
}

impl Default for PtySlots {
    fn default() -> Self {
        Self {
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            asks: Semaphore::new(ASKS_MAX),
        }
    }
}

/// Starts a program and follows its terminal from the beginning.
pub(crate) async fn create(
    sandbox: &Arc<Sandbox>,
    id: PtyId,
    wanted: PtyCreateRequest,
) -> Result<PtyStream, PtyError> {
    let permit = stream::permit(sandbox)?;
    let request = PtyRequest::Create(agent_proto::PtyCreate {
        name: id.bytes(),
        program: match wanted.program {
            PtyProgram::Shell(command) => agent_proto::PtyProgram::Shell(command),
            PtyProgram::Arguments(arguments) => agent_proto::PtyProgram::Arguments(arguments),
        },
        size: PtySize {
            columns: wanted.cols,
            rows: wanted.rows,
        },
        environment: wanted.env,
        directory: wanted.cwd,
        created_at_ms: clock::now_ms(),
    });
    PtyStream::create(sandbox, permit, request, id).await
}

/// Follows a terminal from byte `since` on.
pub(crate) async fn attach(sandbox: &Arc<Sandbox>, id: PtyId, since: u64) -> Result<PtyStream, PtyError> {
    let permit = stream::permit(sandbox)?;
    PtyStream::attach(sandbox, permit, id, since).await
}

pub(crate) async fn list(sandbox: &Sandbox) -> Result<Vec<PtyInfo>, PtyError> {
    match ask::ask(sandbox, PtyRequest::List).await? {
        Reply::Pty(agent_proto::PtyReply::Sessions(sessions)) => {
            Ok(sessions.into_iter().take(SESSIONS_MAX).map(info).collect())
        }
        reply => Err(ask::unexpected(reply, "PtyList")),
    }
}

pub(crate) async fn input(sandbox: &Sandbox, id: PtyId, bytes: Vec<u8>) -> Result<(), PtyError> {
    let (name, count) = (id.bytes(), bytes.len());
    ask::done(sandbox, PtyRequest::Input { name, bytes }).await?;
    sandbox.received(count);
    Ok(())
}

pub(crate) async fn resize(sandbox: &Sandbox, id: PtyId, wanted: PtyResizeRequest) -> Result<(), PtyError> {
    let size = PtySize {
        columns: wanted.cols,
        rows: wanted.rows,
    };
    sandbox.touch();
    ask::done(
        sandbox,
        PtyRequest::Resize {
            name: id.bytes(),
            size,
        },
    )
    .await
}

pub(crate) async fn kill(sandbox: &Sandbox, id: PtyId) -> Result<(), PtyError> {
    sandbox.touch();
    ask::done(sandbox, PtyRequest::Kill { name: id.bytes() }).await
}

/// Output from a byte on, waited for.
pub(crate) async fn read(
    sandbox: &Sandbox,
    id: PtyId,
    wanted: PtyReadRequest,
) -> Result<PtyReadAnswer, PtyError> {
    let name: PtyName = id.bytes();
    let request = agent_proto::PtyRead {
        name,
        since: wanted.since_seq,
        bytes_max: wanted.max_bytes,
        wait_ms: wanted.timeout_ms,
    };
    let read = ask::read(sandbox, request).await?;
    sandbox.sent(read.bytes.len());
    Ok(PtyReadAnswer {
        next_seq: read.seq.saturating_add(read.bytes.len() as u64),
        data_b64: STANDARD.encode(&read.bytes),
        exit_code: read.exit_code,
        dropped: read.seq > wanted.since_seq,
    })
}

fn info(session: PtySession) -> PtyInfo {
    let PtySession {
        name,
        label,
        created_at_ms,
        exit_code,
    } = session;
    PtyInfo {
        pty_id: name.into(),
        cmd_label: label,
        created_at_ms,
        exit_code,
    }
}

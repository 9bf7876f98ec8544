//! One short request to an agent, over a connection that is kept for the next.

use std::future::poll_fn;
use std::time::Duration;

use agent_proto::{FailureCode, PTY_WAIT_MS_MAX, PtyRead, PtyReply, PtyRequest, Reply, Request};
use tokio::time::timeout;

use super::PtyError;
use crate::agent::{self, AgentConnection, AgentError};
use crate::sandbox::Sandbox;

/// How long a new connection to an agent may take.
const CONNECT_BOUND: Duration = Duration::from_secs(8);
/// How long an answer may take: input that a program reads slowly is given up by the agent after 10 s without progress,
/// and the official client does not wait longer than 30 s.
const ANSWER_BOUND: Duration = Duration::from_secs(25);
/// A read waits by itself; this is for the way to and from it.
const READ_BOUND: Duration = Duration::from_millis(PTY_WAIT_MS_MAX as u64 + 5000);
/// How long to wait while too many others ask.
const TURN_BOUND: Duration = Duration::from_secs(5);

/// What a read has found.
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) exit_code: Option<i32>,
}

/// Sends a request that is answered by one reply. [`Reply::Failed`] is an error.
pub(super) async fn ask(sandbox: &Sandbox, request: PtyRequest) -> Result<Reply, PtyError> {
    let turn = timeout(TURN_BOUND, sandbox.pty.asks.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(PtyError::TooManyAsks);
    };
    let answer = async {
        let mut connection = send(sandbox, Request::Pty(request)).await?;
        let reply = hear(&mut connection).await?;
        keep(sandbox, connection);
        Ok(reply)
    };
    within(ANSWER_BOUND, sandbox, answer).await
}

/// The same for a request that is answered by nothing but success.
pub(super) async fn done(sandbox: &Sandbox, request: PtyRequest) -> Result<(), PtyError> {
    match ask(sandbox, request).await? {
        Reply::Done => Ok(()),
        reply => Err(unexpected(reply, "a request about a terminal")),
    }
}

pub(super) async fn read(sandbox: &Sandbox, wanted: PtyRead) -> Result<Found, PtyError> {
    let Ok(_turn) = sandbox.pty.asks.try_acquire() else {
        return Err(PtyError::TooManyAsks);
    };
    let answer = async {
        let mut connection = send(sandbox, Request::Pty(PtyRequest::Read(wanted))).await?;
        let (seq, bytes) = match hear(&mut connection).await? {
            Reply::Pty(PtyReply::Output { seq, bytes }) => (seq, bytes),
            reply => return Err(unexpected(reply, "PtyRead")),
        };
        let exit_code = match hear(&mut connection).await? {
            Reply::Done => None,
            Reply::Pty(PtyReply::Exit { code }) => Some(code),
            reply => return Err(unexpected(reply, "PtyRead")),
        };
        keep(sandbox, connection);
        Ok(Found {
            seq,
            bytes,
            exit_code,
        })
    };
    within(READ_BOUND, sandbox, answer).await
}

/// Sends a request over a connection that has lain idle, or over a new one.
pub(super) async fn send(sandbox: &Sandbox, request: Request) -> Result<AgentConnection, PtyError> {
    send_all(sandbox, &[request]).await
}

/// The same for several at once, each of which costs no round trip of its own.
pub(super) async fn send_all(sandbox: &Sandbox, requests: &[Request]) -> Result<AgentConnection, PtyError> {
    let mut frames = Vec::new();
    for request in requests {
        let frame = request.encode().map_err(AgentError::Encode);
        frames.extend(frame.map_err(PtyError::Agent)?);
    }
    if let Some(mut connection) = sandbox.warm_connection() {
        let mut sent = 0;
        match poll_fn(|cx| connection.poll_send(cx, &frames, &mut sent)).await {
            Ok(()) => return Ok(connection),
            // The agent may have begun what it has got.
            Err(error) if sent > 0 => return Err(PtyError::Agent(error)),
            Err(_) => {}
        }
    }
    let socket = sandbox.files.vsock_socket();
    let connected = timeout(CONNECT_BOUND, agent::connect(&socket)).await;
    let mut connection = connected
        .unwrap_or(Err(AgentError::Silent))
        .map_err(PtyError::Agent)?;
    let mut sent = 0;
    let sending = poll_fn(|cx| connection.poll_send(cx, &frames, &mut sent)).await;
    sending.map_err(PtyError::Agent)?;
    Ok(connection)
}

/// The next reply; [`Reply::Failed`] is an error.
pub(super) async fn hear(connection: &mut AgentConnection) -> Result<Reply, PtyError> {
    match connection.reply().await.map_err(PtyError::Agent)? {
        Reply::Failed(failure) if failure.code == FailureCode::NotFound => Err(PtyError::NotFound),
        Reply::Failed(failure) => Err(PtyError::Refused {
            code: failure.code,
            message: failure.message,
        }),
        reply => Ok(reply),
    }
}

/// The connection is free again.
pub(super) fn keep(sandbox: &Sandbox, connection: AgentConnection) {
    if connection.is_clean() {
        sandbox.keep_connection(connection);
    }
}

pub(super) fn unexpected(_: Reply, expected: &'static str) -> PtyError {
    PtyError::Agent(AgentError::Unexpected { expected })
}

/// Bounds a wait for an agent, and says why the agent is gone if it is.
pub(super) async fn within<T>(
    bound: Duration,
    sandbox: &Sandbox,
    work: impl Future<Output = Result<T, PtyError>>,
) -> Result<T, PtyError> {
    let outcome = timeout(bound, work).await;
    match outcome.unwrap_or(Err(PtyError::Agent(AgentError::Silent))) {
        Err(PtyError::Agent(error)) => match sandbox.mourn().await {
            Some(why) => Err(PtyError::Lost(why)),
            None => Err(PtyError::Agent(error)),
        },
        outcome => outcome,
    }
}

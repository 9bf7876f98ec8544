//! One exec: what its client sent goes to the agent, what the agent sends becomes events.
//!
//! It is polled by whoever answers the client, so it needs no task of its own, a client that reads slowly slows
//! only its own run, and a client that goes away drops it, which closes the agent connection, which cancels the
//! run in the guest.
//!
//! ```text
//! Connecting ──▶ Sending ──▶ Receiving ──▶ Done
//!                   │             │          ▲
//!                   └─────────────┴▶ Mourning┘   the VM is gone: wait to hear why
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use agent_proto::{FailureCode, Reply};
use api::{Channel, EventEncoder};
use lifecycle::{EndReason, Phase};
use pod_types::ErrorChain;
use tokio::time::timeout;

use super::handle::{RunTicket, Sandbox};
use crate::agent::{self, AgentConnection, AgentError};
use crate::clock;

/// Events are handed on when this much is waiting, even if there is more to read.
const CHUNK_BYTES: usize = 64 * 1024;

/// After a connection has broken, how long the owner may take to find out that and why the VM is gone.
const MOURNING_BOUND: Duration = Duration::from_secs(2);

/// How long a new connection to an agent may take.
const CONNECT_BOUND: Duration = Duration::from_secs(10);

/// The exit code of a run whose VM went away under it: as if it had been killed by signal 9.
const EXIT_VM_GONE: i32 = 137;
/// The exit code of a run that the agent could not carry out.
const EXIT_NOT_RUN: i32 = 1;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunEnd {
    Exit(i32),
    /// The agent could not or would not do it.
    Refused {
        code: FailureCode,
        message: String,
    },
    /// The VM or its agent is gone.
    Lost(String),
}

pub(crate) struct RunStream {
    sandbox: Arc<Sandbox>,
    _ticket: RunTicket,
    /// The request, as the agent gets it; given back once sent.
    frame: Vec<u8>,
    stage: Stage,
    encoder: EventEncoder,
    end: Option<RunEnd>,
    hops: Hops,
}

enum Stage {
    Connecting(Pin<Box<dyn Future<Output = Result<AgentConnection, AgentError>> + Send>>),
    Sending {
        connection: AgentConnection,
        sent: usize,
        /// A connection that has lain idle may have been closed by the agent; a new one is tried then, once.
        warm: bool,
    },
    Receiving(AgentConnection),
    Mourning(Pin<Box<dyn Future<Output = String> + Send>>),
    Done,
}

/// When a run reached its hops, so that latency can be explained.
#[derive(Clone, Copy, Debug)]
struct Hops {
    received: Instant,
    sent: Option<Instant>,
    first_reply: Option<Instant>,
}

impl RunStream {
    /// `frame` is the encoded request, `received` when the client's request was.
    pub(crate) fn new(sandbox: Arc<Sandbox>, ticket: RunTicket, frame: Vec<u8>, received: Instant) -> Self {
        let stage = match sandbox.warm_connection() {
            Some(connection) => Stage::Sending {
                connection,
                sent: 0,
                warm: true,
            },
            None => connecting(&sandbox),
        };
        Self {
            sandbox,
            _ticket: ticket,
            frame,
            stage,
            encoder: EventEncoder::default(),
            end: None,
            hops: Hops {
                received,
                sent: None,
                first_reply: None,
            },
        }
    }

    /// Works until the run has ended or a whole chunk of events is waiting (ready), or until there is nothing to do
    /// (pending; there may be events waiting all the same).
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.end.is_none() && self.encoder.len() < CHUNK_BYTES {
            ready!(self.poll_stage(cx));
        }
        Poll::Ready(())
    }

    /// How the run ended, once it has. Only [`RunEnd::Exit`] has put its exit event among the events.
    pub(crate) fn end(&self) -> Option<&RunEnd> {
        self.end.as_ref()
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.encoder.is_empty()
    }

    pub(crate) fn take_events(&mut self) -> Vec<u8> {
        self.encoder.take()
    }

    /// Says on the stream itself that the run was lost or refused: it is too late for a status.
    pub(crate) fn confess(&mut self) {
        let (line, code) = match self.end.take() {
            Some(RunEnd::Lost(why)) => (format!("podflare: {why}\n"), EXIT_VM_GONE),
            Some(RunEnd::Refused { message, .. }) => (format!("podflare: {message}\n"), EXIT_NOT_RUN),
            other => {
                self.end = other;
                return;
            }
        };
        let now = clock::now_ms();
        // What was written before ends in a line of its own.
        self.encoder.output(Channel::Stderr, line.as_bytes(), now);
        self.encoder.exit(code, now);
        self.end = Some(RunEnd::Exit(code));
    }

    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stage {
            Stage::Connecting(connect) => match ready!(connect.as_mut().poll(cx)) {
                Ok(connection) => {
                    self.stage = Stage::Sending {
                        connection,
                        sent: 0,
                        warm: false,
                    };
                }
                Err(error) => self.mourn(error),
            },
            Stage::Sending {
                connection,
                sent,
                warm,
            } => match ready!(connection.poll_send(cx, &self.frame, sent)) {
                Ok(()) => self.sent(),
                // The agent cannot have begun a request it has not got whole.
                Err(_) if *warm => self.stage = connecting(&self.sandbox),
                Err(error) => self.mourn(error),
            },
            Stage::Receiving(connection) => match ready!(connection.poll_reply(cx)) {
                Ok(reply) => self.hear(reply),
                Err(error) => self.mourn(error),
            },
            Stage::Mourning(why) => {
                let why = ready!(why.as_mut().poll(cx));
                self.end = Some(RunEnd::Lost(why));
                self.stage = Stage::Done;
            }
            Stage::Done => {}
        }
        Poll::Ready(())
    }

    fn sent(&mut self) {
        self.frame = Vec::new();
        self.hops.sent = Some(Instant::now());
        if let Stage::Sending { connection, .. } = std::mem::replace(&mut self.stage, Stage::Done) {
            self.stage = Stage::Receiving(connection);
        }
    }

    fn hear(&mut self, reply: Reply) {
        self.hops.first_reply.get_or_insert_with(Instant::now);
        match reply {
            Reply::Stdout(bytes) => self.encoder.output(Channel::Stdout, &bytes, clock::now_ms()),
            Reply::Stderr(bytes) => self.encoder.output(Channel::Stderr, &bytes, clock::now_ms()),
            Reply::Exit(exit) => {
                self.encoder.exit(exit.code, clock::now_ms());
                self.finish(RunEnd::Exit(exit.code));
            }
            Reply::Failed(failure) => self.finish(RunEnd::Refused {
                code: failure.code,
                message: failure.message,
            }),
            Reply::Welcome(_)
            | Reply::Ready(_)
            | Reply::Done
            | Reply::Entries(_)
            | Reply::Digests(_)
            | Reply::Dropped { .. }
            | Reply::File(_) => {
                self.mourn(AgentError::Unexpected { expected: "Exec" });
            }
        }
    }

    /// The connection is free again.
    fn finish(&mut self, end: RunEnd) {
        self.hops.log(&self.sandbox);
        self.end = Some(end);
        if let Stage::Receiving(connection) = std::mem::replace(&mut self.stage, Stage::Done)
            && connection.is_clean()
        {
            self.sandbox.keep_connection(connection);
        }
    }

    fn mourn(&mut self, error: AgentError) {
        let sandbox = Arc::clone(&self.sandbox);
        self.stage = Stage::Mourning(Box::pin(async move {
            if timeout(MOURNING_BOUND, sandbox.down()).await.is_ok() {
                epitaph(&sandbox)
            } else {
                let chain = ErrorChain(&error).to_string();
                tracing::warn!(sandbox_id = %sandbox.id(), error = chain, "a run has lost its agent");
                format!("the connection to the sandbox was lost: {chain}")
            }
        }));
    }
}

impl Hops {
    fn log(&self, sandbox: &Sandbox) {
        let at = |hop: Option<Instant>| hop.map(|hop| (hop - self.received).as_micros());
        tracing::debug!(
            sandbox_id = %sandbox.id(),
            sent_us = at(self.sent),
            first_reply_us = at(self.first_reply),
            exit_us = at(Some(Instant::now())),
            "run ended, times since its request was received"
        );
    }
}

fn connecting(sandbox: &Sandbox) -> Stage {
    let socket = sandbox.files.vsock_socket();
    Stage::Connecting(Box::pin(async move {
        let connected = timeout(CONNECT_BOUND, agent::connect(&socket)).await;
        connected.unwrap_or(Err(AgentError::Refused))
    }))
}

/// Why a sandbox that was ready is not any more.
fn epitaph(sandbox: &Sandbox) -> String {
    match sandbox.phase() {
        Phase::Failed { why } => format!("the sandbox has failed: {why}"),
        Phase::Ending { reason } | Phase::Gone { reason } => match reason {
            EndReason::Shutdown => "the host is shutting down, and the sandbox with it".to_owned(),
            EndReason::Merged => "another sandbox has taken the place of this one".to_owned(),
            EndReason::Deleted | EndReason::Abandoned | EndReason::BootFailed => {
                "the sandbox was deleted".to_owned()
            }
        },
        Phase::Booting | Phase::Ready => "the connection to the sandbox was lost".to_owned(),
    }
}

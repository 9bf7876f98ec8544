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

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use agent_proto::{FailureCode, Language, Reply};
use api::Channel;
use bytes::Bytes;
use lifecycle::{EndReason, Phase};
use pod_types::ErrorChain;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use super::handle::{RunTicket, Sandbox};
use crate::agent::{self, AgentConnection, AgentError};
use crate::clock;
use crate::events;
use crate::metrics::RunOutcome;
use crate::replay::Scribe;

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
/// The exit code, for the replay alone, of a run whose client went away: it is interrupted, as if by Ctrl-C.
const EXIT_ABANDONED: i32 = 130;

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

/// What a client wants to run.
pub(crate) struct Run {
    pub(crate) language: Language,
    /// The encoded request.
    pub(crate) frame: Vec<u8>,
    /// When the client's request was.
    pub(crate) received: Instant,
}

pub(crate) struct RunStream {
    sandbox: Arc<Sandbox>,
    _ticket: RunTicket,
    /// The request, as the agent gets it; given back once sent.
    frame: Vec<u8>,
    stage: Stage,
    scribe: Scribe,
    end: Option<RunEnd>,
    language: Language,
    /// Of the run, within that of its request.
    span: Span,
    hops: Hops,
    counted: bool,
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
    pub(crate) fn new(sandbox: Arc<Sandbox>, ticket: RunTicket, run: Run) -> Self {
        let Run {
            language,
            frame,
            received,
        } = run;
        sandbox.metrics.runs.code_bytes.inc_by(frame.len() as u64);
        let stage = match sandbox.warm_connection() {
            Some(connection) => Stage::Sending {
                connection,
                sent: 0,
                warm: true,
            },
            None => connecting(&sandbox),
        };
        let scribe = Scribe::new(&sandbox.replay);
        Self {
            sandbox,
            _ticket: ticket,
            frame,
            stage,
            scribe,
            end: None,
            hops: Hops::new(received),
            language,
            span: tracing::debug_span!("run", ?language),
            counted: false,
        }
    }

    /// A run that goes on in a clone, from here on over a connection that follows it already.
    pub(crate) fn following(
        sandbox: Arc<Sandbox>,
        ticket: RunTicket,
        connection: AgentConnection,
        scribe: Scribe,
    ) -> Self {
        Self {
            sandbox,
            _ticket: ticket,
            frame: Vec::new(),
            stage: Stage::Receiving(connection),
            scribe,
            end: None,
            hops: Hops::new(Instant::now()),
            language: Language::Python,
            span: tracing::debug_span!("carried"),
            counted: true,
        }
    }

    /// Writes a run down that has no client, to its end.
    pub(crate) async fn write_down(mut self) {
        poll_fn(|cx| {
            loop {
                let ended = self.poll(cx).is_ready() && self.end.is_some();
                if ended {
                    self.confess();
                }
                let had_events = self.has_events();
                if had_events {
                    drop(self.take_events());
                }
                if ended {
                    return Poll::Ready(());
                }
                // A whole chunk stopped it; otherwise it waits for the guest.
                if !had_events {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    /// Works until the run has ended or a whole chunk of events is waiting (ready), or until there is nothing to do
    /// (pending; there may be events waiting all the same).
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.end.is_none() && self.scribe.len() < CHUNK_BYTES {
            ready!(self.poll_stage(cx));
        }
        Poll::Ready(())
    }

    /// How the run ended, once it has. Only [`RunEnd::Exit`] has put its exit event among the events.
    pub(crate) fn end(&self) -> Option<&RunEnd> {
        self.end.as_ref()
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.scribe.is_empty()
    }

    /// For the client; the sandbox's replay has them, too.
    pub(crate) fn take_events(&mut self) -> Bytes {
        let events = self.scribe.take();
        self.sandbox.sent(events.len());
        events
    }

    /// Says on the stream itself that the run was lost or refused: it is too late for a status.
    pub(crate) fn confess(&mut self) {
        let (line, code) = match self.end.take() {
            Some(RunEnd::Lost(why)) => (why, EXIT_VM_GONE),
            Some(RunEnd::Refused { message, .. }) => (message, EXIT_NOT_RUN),
            other => {
                self.end = other;
                return;
            }
        };
        let now = clock::now_ms();
        self.scribe.remark(&line, now);
        self.scribe.exit(code, now);
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
        let runs = &self.sandbox.metrics.runs;
        if self.hops.first_reply.is_none() {
            let now = Instant::now();
            self.hops.first_reply = Some(now);
            runs.first_reply.observe(now - self.hops.received);
        }
        match reply {
            Reply::Stdout(bytes) => {
                runs.stdout(bytes.len());
                self.scribe.output(Channel::Stdout, &bytes, clock::now_ms());
            }
            Reply::Stderr(bytes) => {
                runs.stderr(bytes.len());
                self.scribe.output(Channel::Stderr, &bytes, clock::now_ms());
            }
            Reply::Dropped { bytes } => {
                let text = format!("{bytes} bytes of output before this are not kept");
                self.scribe.remark(&text, clock::now_ms());
            }
            Reply::Exit(exit) => {
                self.scribe.exit(exit.code, clock::now_ms());
                self.finish(RunEnd::Exit(exit.code));
            }
            Reply::Failed(failure) => self.finish(RunEnd::Refused {
                code: failure.code,
                message: failure.message,
            }),
            // Nothing else answers an exec.
            _ => {
                self.mourn(AgentError::Unexpected { expected: "Exec" });
            }
        }
    }

    /// The connection is free again.
    fn finish(&mut self, end: RunEnd) {
        self.hops.log(&self.sandbox);
        self.count(match &end {
            RunEnd::Exit(0) => RunOutcome::Ok,
            RunEnd::Exit(_) => RunOutcome::Error,
            RunEnd::Refused { .. } => RunOutcome::Refused,
            RunEnd::Lost(_) => RunOutcome::Lost,
        });
        self.end = Some(end);
        if let Stage::Receiving(connection) = std::mem::replace(&mut self.stage, Stage::Done)
            && connection.is_clean()
        {
            self.sandbox.keep_connection(connection);
        }
    }

    fn mourn(&mut self, error: AgentError) {
        self.count(RunOutcome::Lost);
        if error.is_breach() {
            self.sandbox.metrics.vms.agent_errors.inc();
        }
        let sandbox = Arc::clone(&self.sandbox);
        let mourning = async move {
            if let Some(epitaph) = sandbox.mourn().await {
                epitaph
            } else {
                let chain = ErrorChain(&error).to_string();
                if sandbox.may_log() {
                    tracing::warn!(
                        event = events::AGENT_LOST,
                        sandbox_id = %sandbox.id(),
                        error = chain,
                        "a run has lost its agent"
                    );
                }
                format!("the connection to the sandbox was lost: {chain}")
            }
        };
        self.stage = Stage::Mourning(Box::pin(mourning.instrument(self.span.clone())));
    }
}

impl RunStream {
    /// Counts the run once, whichever way it ends first.
    fn count(&mut self, outcome: RunOutcome) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        let now = Instant::now();
        let metrics = &self.sandbox.metrics;
        let took = now - self.hops.received;
        metrics.runs.ended(self.language, outcome, took);
        metrics.recent.ran(took);
        if let Some(sent) = self.hops.sent {
            metrics.runs.queue.observe(self.sandbox.run_ended(sent, now));
        }
    }
}

impl Drop for RunStream {
    /// A client that went away gets nothing more, but the replay does not stop in the middle of a run.
    fn drop(&mut self) {
        self.count(RunOutcome::Cancelled);
        let begun = self.scribe.has_begun();
        match &self.end {
            Some(RunEnd::Exit(_)) => {}
            Some(RunEnd::Lost(_)) if begun => self.confess(),
            None if begun => {
                let now = clock::now_ms();
                self.scribe
                    .remark("the client went away and the run was interrupted", now);
                self.scribe.exit(EXIT_ABANDONED, now);
            }
            Some(RunEnd::Lost(_) | RunEnd::Refused { .. }) | None => {}
        }
        if self.has_events() {
            drop(self.take_events());
        }
    }
}

impl Hops {
    fn new(received: Instant) -> Self {
        Self {
            received,
            sent: None,
            first_reply: None,
        }
    }

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

impl Sandbox {
    /// After a connection has broken: why the sandbox is gone, if it is.
    pub(crate) async fn mourn(&self) -> Option<String> {
        timeout(MOURNING_BOUND, self.down()).await.ok()?;
        Some(epitaph(self))
    }
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

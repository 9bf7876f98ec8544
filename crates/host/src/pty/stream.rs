//! One client that follows a terminal, over an agent connection of its own.

use std::sync::Arc;
use std::time::Duration;

use agent_proto::{PtyReply, PtyRequest, Reply, Request};
use api::PtyEvent;
use pod_types::{ErrorChain, PtyId};
use tokio::sync::OwnedSemaphorePermit;

use super::{PtyError, ask};
use crate::agent::{AgentConnection, AgentError};
use crate::sandbox::Sandbox;

/// From the request until the agent has said that there is such a terminal; the official client waits 10 s for a new one.
const ATTACH_BOUND: Duration = Duration::from_secs(9);
/// The exit code where the VM is gone: as if the program had been killed by signal 9.
const EXIT_VM_GONE: i32 = 137;

/// What comes next on a stream.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    Output {
        seq: u64,
        bytes: Vec<u8>,
    },
    /// So many bytes are missing before the next.
    Dropped {
        bytes: u64,
    },
    Exit(i32),
    /// The stream is over before the program is, or the VM is gone.
    Broken {
        why: String,
        exit_code: Option<i32>,
    },
}

pub(crate) struct PtyStream {
    sandbox: Arc<Sandbox>,
    connection: Option<AgentConnection>,
    /// Whether the agent has said that it has attached.
    is_attached: bool,
    /// Number of the next byte.
    next: u64,
    /// Output that waits until the gap before it has been told.
    held: Option<(u64, Vec<u8>)>,
    _permit: OwnedSemaphorePermit,
}

/// Room for one more client.
pub(super) fn permit(sandbox: &Sandbox) -> Result<OwnedSemaphorePermit, PtyError> {
    let permit = Arc::clone(&sandbox.pty.streams).try_acquire_owned();
    permit.map_err(|_| PtyError::TooManyStreams)
}

impl PtyStream {
    /// Creates and attaches in one round trip: on a busy emulated machine each may cost a second.
    pub(super) async fn create(
        sandbox: &Arc<Sandbox>,
        permit: OwnedSemaphorePermit,
        create: PtyRequest,
        id: PtyId,
    ) -> Result<Self, PtyError> {
        let requests = [Request::Pty(create), attach_request(id, 0)];
        let created = async {
            let mut connection = ask::send_all(sandbox, &requests).await?;
            match ask::hear(&mut connection).await? {
                Reply::Done => Ok(connection),
                reply => Err(ask::unexpected(reply, "PtyCreate")),
            }
        };
        let connection = ask::within(ATTACH_BOUND, sandbox, created).await?;
        Ok(Self::new(sandbox, permit, connection, 0))
    }

    pub(super) async fn attach(
        sandbox: &Arc<Sandbox>,
        permit: OwnedSemaphorePermit,
        id: PtyId,
        since: u64,
    ) -> Result<Self, PtyError> {
        let attached = async {
            let mut connection = ask::send(sandbox, attach_request(id, since)).await?;
            match ask::hear(&mut connection).await? {
                Reply::Done => Ok(connection),
                reply => Err(ask::unexpected(reply, "PtyAttach")),
            }
        };
        let connection = ask::within(ATTACH_BOUND, sandbox, attached).await?;
        Ok(Self {
            is_attached: true,
            ..Self::new(sandbox, permit, connection, since)
        })
    }

    fn new(
        sandbox: &Arc<Sandbox>,
        permit: OwnedSemaphorePermit,
        connection: AgentConnection,
        next: u64,
    ) -> Self {
        Self {
            sandbox: Arc::clone(sandbox),
            connection: Some(connection),
            is_attached: false,
            next,
            held: None,
            _permit: permit,
        }
    }

    /// `None` after the end. Nothing is lost when this is dropped before it is ready.
    pub(crate) async fn next(&mut self) -> Option<StreamEvent> {
        if let Some((seq, bytes)) = self.held.take() {
            return Some(self.output(seq, bytes));
        }
        if !self.is_attached {
            match self.connection.as_mut()?.reply().await {
                Ok(Reply::Done) => self.is_attached = true,
                Ok(_) => {
                    return Some(
                        self.broken(AgentError::Unexpected {
                            expected: "PtyAttach",
                        })
                        .await,
                    );
                }
                Err(error) => return Some(self.broken(error).await),
            }
        }
        let error = match self.connection.as_mut()?.reply().await {
            Ok(Reply::Pty(PtyReply::Output { seq, bytes })) if seq > self.next => {
                let dropped = seq - self.next;
                self.held = Some((seq, bytes));
                return Some(StreamEvent::Dropped { bytes: dropped });
            }
            Ok(Reply::Pty(PtyReply::Output { seq, bytes })) => return Some(self.output(seq, bytes)),
            Ok(Reply::Pty(PtyReply::Exit { code })) => {
                if let Some(connection) = self.connection.take() {
                    ask::keep(&self.sandbox, connection);
                }
                return Some(StreamEvent::Exit(code));
            }
            Ok(_) => AgentError::Unexpected {
                expected: "PtyAttach",
            },
            Err(error) => error,
        };
        Some(self.broken(error).await)
    }

    fn output(&mut self, seq: u64, bytes: Vec<u8>) -> StreamEvent {
        self.next = seq.saturating_add(bytes.len() as u64);
        self.sandbox.sent(bytes.len());
        StreamEvent::Output { seq, bytes }
    }

    async fn broken(&mut self, error: AgentError) -> StreamEvent {
        let event = match self.sandbox.mourn().await {
            Some(why) => StreamEvent::Broken {
                why,
                exit_code: Some(EXIT_VM_GONE),
            },
            None => {
                let chain = ErrorChain(&error).to_string();
                tracing::warn!(sandbox_id = %self.sandbox.id(), error = chain, "a terminal's stream broke off");
                StreamEvent::Broken {
                    why: format!("the connection to the terminal was lost: {chain}"),
                    exit_code: None,
                }
            }
        };
        // Last, so that one who stopped waiting for the reason may ask again.
        self.connection = None;
        event
    }
}

fn attach_request(id: PtyId, since: u64) -> Request {
    Request::Pty(PtyRequest::Attach {
        name: id.bytes(),
        since,
    })
}

impl StreamEvent {
    /// As clients read it.
    pub(crate) fn events(self) -> Vec<PtyEvent> {
        match self {
            Self::Output { seq, bytes } => vec![PtyEvent::data(seq, &bytes)],
            Self::Dropped { bytes } => vec![PtyEvent::PtyDropped { bytes }],
            Self::Exit(code) => vec![PtyEvent::PtyExit { data: code }],
            Self::Broken { why, exit_code } => {
                let mut events = vec![PtyEvent::PtyError { message: why }];
                events.extend(exit_code.map(|data| PtyEvent::PtyExit { data }));
                events
            }
        }
    }
}

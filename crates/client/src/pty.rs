//! Terminals.

use std::fmt;

use api::{PtyCreateRequest, PtyEvent, PtyInfo, PtyInputRequest, PtyResizeRequest};
use pod_types::{PtyId, SandboxId};

use crate::client::{Client, NOTHING};
use crate::error::{ClientError, Refusal};
use crate::lines::Lines;
use crate::transport::Call;

/// The events of one terminal from where it was attached; heartbeats and events that this version does not know are
/// skipped. It ends after the exit event; a stream that ends without one yields [`ClientError::Broken`]. Dropping it
/// only detaches.
pub struct PtyStream {
    lines: Lines,
    over: bool,
}

impl Client {
    /// Starts a program on a new terminal; gives its id and its events.
    ///
    /// # Errors
    /// [`ClientError`]; a program that cannot be started is a [`ClientError::Refused`].
    pub fn pty_create(
        &self,
        id: SandboxId,
        request: &PtyCreateRequest,
    ) -> Result<(PtyId, PtyStream), ClientError> {
        let path = format!("/v1/sandboxes/{id}/pty");
        let call = Call::new("POST", &path, "opening a terminal");
        let mut stream = self.pty_stream(call, Some(request))?;
        match stream.read_event()? {
            PtyEvent::PtyReady { session_id } => Ok((session_id, stream)),
            other => Err(stream
                .lines
                .not_podflare(format!("{other:?} instead of pty_ready"))),
        }
    }

    /// Follows a terminal from byte `since` on, or from the oldest that is kept.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn pty_attach(&self, id: SandboxId, pty: PtyId, since: u64) -> Result<PtyStream, ClientError> {
        let path = format!("/v1/sandboxes/{id}/pty/{pty}/attach?since_seq={since}");
        self.pty_stream(Call::new("GET", &path, "attaching to a terminal"), NOTHING)
    }

    /// All terminals of a sandbox, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn pty_list(&self, id: SandboxId) -> Result<Vec<PtyInfo>, ClientError> {
        let path = format!("/v1/sandboxes/{id}/pty");
        self.transport
            .json(Call::new("GET", &path, "listing terminals"), NOTHING)
    }

    /// Bytes as if typed; at most a mebibyte at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn pty_input(&self, id: SandboxId, pty: PtyId, data: Vec<u8>) -> Result<(), ClientError> {
        let path = format!("/v1/sandboxes/{id}/pty/{pty}/input");
        let call = Call::new("POST", &path, "typing into a terminal");
        self.transport
            .text(call, Some(&PtyInputRequest { data }))
            .map(drop)
    }

    /// Tells the program the size of its window.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn pty_resize(&self, id: SandboxId, pty: PtyId, size: PtyResizeRequest) -> Result<(), ClientError> {
        let path = format!("/v1/sandboxes/{id}/pty/{pty}/resize");
        let call = Call::new("POST", &path, "resizing a terminal");
        self.transport.text(call, Some(&size)).map(drop)
    }

    /// Kills the program and all in its session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn pty_kill(&self, id: SandboxId, pty: PtyId) -> Result<(), ClientError> {
        let path = format!("/v1/sandboxes/{id}/pty/{pty}/kill");
        let call = Call::new("POST", &path, "killing a terminal's program");
        self.transport.text(call, NOTHING).map(drop)
    }

    fn pty_stream<B: serde::Serialize + 'static>(
        &self,
        call: Call<'_>,
        body: Option<&B>,
    ) -> Result<PtyStream, ClientError> {
        let body = self.transport.stream(call, body)?;
        let call = Call::new("GET", "", "following a terminal");
        Ok(PtyStream {
            lines: Lines::new(self.transport.clone(), call, Box::new(body)),
            over: false,
        })
    }
}

impl PtyStream {
    fn read_event(&mut self) -> Result<PtyEvent, ClientError> {
        loop {
            let Some(line) = self.lines.next()? else {
                return Err(self.lines.broken("the stream ended before the program did"));
            };
            match serde_json::from_slice(line) {
                Ok(PtyEvent::Unknown) => {}
                Ok(PtyEvent::PtyError { message }) => {
                    return Err(ClientError::Refused(Refusal {
                        status: 200,
                        code: "pty_error".to_owned(),
                        text: message,
                        hint: None,
                    }));
                }
                Ok(event) => return Ok(event),
                Err(error) => return Err(self.lines.not_podflare(error)),
            }
        }
    }
}

impl Iterator for PtyStream {
    type Item = Result<PtyEvent, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let event = self.read_event();
        self.over = matches!(event, Ok(PtyEvent::PtyExit { .. }) | Err(_));
        if matches!(event, Ok(PtyEvent::PtyExit { .. })) {
            self.lines.drain();
        }
        Some(event)
    }
}

impl fmt::Debug for PtyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PtyStream")
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

//! The output of one run, as it happens.

use std::fmt;
use std::io::Read;

use api::{Event, EventKind};
use serde::Deserialize;

use crate::error::ClientError;
use crate::lines::Lines;
use crate::transport::{Call, Transport};

/// Events of one run; heartbeats and events of kinds this version does not know are skipped. It ends after the exit
/// event; a stream that ends without one yields [`ClientError::Broken`]. **Dropping it cancels the run**: the host
/// sees the connection close and interrupts the code.
pub struct ExecStream {
    lines: Lines,
    over: bool,
}

impl ExecStream {
    pub(crate) fn new(transport: Transport, call: Call<'static>, body: Box<dyn Read + Send>) -> Self {
        Self {
            lines: Lines::new(transport, call, body),
            over: false,
        }
    }

    /// Reads up to the next line that is an event.
    fn read_event(&mut self) -> Result<Event, ClientError> {
        loop {
            let Some(line) = self.lines.next()? else {
                return Err(self.lines.broken("the stream ended before the run did"));
            };
            match parse(line) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => return Err(self.lines.not_podflare(error)),
            }
        }
    }
}

impl Iterator for ExecStream {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let event = self.read_event();
        match &event {
            Ok(event) if event.kind != EventKind::Exit => {}
            Ok(_) => {
                self.over = true;
                self.lines.drain();
            }
            Err(_) => self.over = true,
        }
        Some(event)
    }
}

impl fmt::Debug for ExecStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecStream")
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

/// An event, or `None` for an event of a kind that only newer hosts and clients know.
fn parse(line: &[u8]) -> Result<Option<Event>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }

    serde_json::from_slice(line)
        .map(Some)
        .or_else(|error| match serde_json::from_slice::<Kind<'_>>(line) {
            Ok(Kind { kind }) if !["stdout", "stderr", "exit"].contains(&&*kind) => Ok(None),
            Ok(_) | Err(_) => Err(error),
        })
}

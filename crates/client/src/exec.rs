//! The output of one run, as it happens.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use api::{Event, EventKind};
use serde::Deserialize;

use crate::error::ClientError;
use crate::transport::{Call, Transport};

/// Longest line of the stream. The host cuts lines of output at 64 MiB; what is much longer is no such host.
const LINE_BYTES_MAX: usize = 2 * api::LINE_BYTES_MAX;

/// Events of one run; heartbeats and events of kinds this version does not know are skipped. It ends after the exit
/// event; a stream that ends without one yields [`ClientError::Broken`]. **Dropping it cancels the run**: the host
/// sees the connection close and interrupts the code.
pub struct ExecStream {
    transport: Transport,
    call: Call<'static>,
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    over: bool,
}

impl ExecStream {
    pub(crate) fn new(transport: Transport, call: Call<'static>, body: Box<dyn Read + Send>) -> Self {
        Self {
            transport,
            call,
            reader: BufReader::new(body),
            line: Vec::new(),
            over: false,
        }
    }

    /// Reads up to the next line that is an event.
    fn read_event(&mut self) -> Result<Event, ClientError> {
        loop {
            self.line.clear();
            let mut limited = (&mut self.reader).take(LINE_BYTES_MAX as u64);
            let read = limited.read_until(b'\n', &mut self.line);
            let len = read.map_err(|error| self.transport.broken(self.call, error))?;
            if len == 0 {
                return Err(self
                    .transport
                    .broken(self.call, "the stream ended before the run did"));
            }
            if len == LINE_BYTES_MAX {
                return Err(self
                    .transport
                    .not_podflare(self.call, "a line of the stream is too long"));
            }
            let line = self.line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            match parse(line) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => return Err(self.transport.not_podflare(self.call, error)),
            }
        }
    }

    /// Reads to the end of the body, which comes right after the exit event, so that the connection can be used
    /// again. What else may stand there is of no interest.
    fn drain(&mut self) {
        self.line.clear();
        let _ = (&mut self.reader).take(1).read_to_end(&mut self.line);
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
                self.drain();
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

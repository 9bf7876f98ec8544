//! A stream of lines, as all streams of the API are.

use std::io::{BufRead, BufReader, Read};

use crate::error::ClientError;
use crate::transport::{Call, Transport};

/// Longest line. The host cuts lines of output at 64 MiB; what is much longer is no such host.
const LINE_BYTES_MAX: usize = 2 * api::LINE_BYTES_MAX;

/// Lines with something on them; bare newlines are heartbeats. Dropping it closes the connection.
pub(crate) struct Lines {
    transport: Transport,
    call: Call<'static>,
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(transport: Transport, call: Call<'static>, body: Box<dyn Read + Send>) -> Self {
        Self {
            transport,
            call,
            reader: BufReader::new(body),
            line: Vec::new(),
        }
    }

    /// The next line, without white space at its ends; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, ClientError> {
        loop {
            self.line.clear();
            let mut limited = (&mut self.reader).take(LINE_BYTES_MAX as u64);
            let read = limited.read_until(b'\n', &mut self.line);
            let len = read.map_err(|error| self.transport.broken(self.call, error))?;
            if len == 0 {
                return Ok(None);
            }
            if len == LINE_BYTES_MAX {
                return Err(self
                    .transport
                    .not_podflare(self.call, "a line of the stream is too long"));
            }
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        Ok(Some(self.line.trim_ascii()))
    }

    /// Reads to the end of the body, which comes right after the last event, so that the connection can be used
    /// again. What else may stand there is of no interest.
    pub(crate) fn drain(&mut self) {
        self.line.clear();
        let _ = (&mut self.reader).take(1).read_to_end(&mut self.line);
    }

    /// The stream ended early.
    pub(crate) fn broken(&self, why: &str) -> ClientError {
        self.transport.broken(self.call, why)
    }

    /// A line makes no sense.
    pub(crate) fn not_podflare(
        &self,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        self.transport.not_podflare(self.call, why)
    }
}

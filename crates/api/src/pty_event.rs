//! The events of a terminal's stream, one JSON object a line; bare newlines between them are heartbeats.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pod_types::PtyId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::openapi::PtyIdText;

/// One line of a terminal's stream. Bytes are numbered from the first one the program ever wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PtyEvent {
    /// First on the stream of a new terminal.
    PtyReady {
        #[schemars(with = "PtyIdText")]
        session_id: PtyId,
    },
    /// Output.
    PtyData {
        /// The bytes, in base64.
        data_b64: String,
        /// Number of the first byte here.
        seq: u64,
    },
    /// So many bytes before the next are missing: this client was too slow, or came too late.
    PtyDropped { bytes: u64 },
    /// The program has exited; nothing follows.
    PtyExit {
        /// Its exit code, 128+n after signal n.
        data: i32,
    },
    /// The terminal was not created, or this stream cannot go on.
    PtyError {
        /// Why, for people.
        message: String,
    },
    /// Of a newer host; to be ignored.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl PtyEvent {
    /// Output, as it came from the terminal.
    #[must_use]
    pub fn data(seq: u64, bytes: &[u8]) -> Self {
        Self::PtyData {
            data_b64: STANDARD.encode(bytes),
            seq,
        }
    }

    /// The output of a data event; `None` of others and of data that is no base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::PtyData { data_b64, .. } => STANDARD.decode(data_b64).ok(),
            _ => None,
        }
    }

    /// One line of a stream. JSON of other characters than ASCII is split in the wrong places by some clients, so
    /// there are none.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let text = serde_json::to_string(self).unwrap_or_default();
        let mut line = Vec::with_capacity(text.len() + 1);
        for character in text.chars() {
            if character.is_ascii() {
                line.push(character as u8);
            } else {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    line.extend(format!("\\u{unit:04x}").bytes());
                }
            }
        }
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_the_official_client_reads() {
        assert_eq!(
            PtyEvent::data(7, b"a\xff").line(),
            b"{\"type\":\"pty_data\",\"data_b64\":\"Yf8=\",\"seq\":7}\n"
        );
        assert_eq!(
            PtyEvent::PtyExit { data: 137 }.line(),
            b"{\"type\":\"pty_exit\",\"data\":137}\n"
        );
        let id = PtyId::from([0x1f; 16]);
        let ready = PtyEvent::PtyReady { session_id: id }.line();
        let expected = format!(
            "{{\"type\":\"pty_ready\",\"session_id\":\"pty_{}\"}}\n",
            "1f".repeat(16)
        );
        assert_eq!(ready, expected.as_bytes());
    }

    #[test]
    fn a_line_is_ascii_and_survives_being_read() {
        let error = PtyEvent::PtyError {
            message: "\u{2028}\u{85} \u{1f600} \"\n".to_owned(),
        };
        let line = error.line();
        assert!(line.is_ascii() && line.iter().filter(|byte| **byte == b'\n').count() == 1);
        assert_eq!(serde_json::from_slice::<PtyEvent>(&line).unwrap(), error);
        let newer = serde_json::from_str::<PtyEvent>(r#"{"type":"pty_news","x":1}"#);
        assert_eq!(newer.unwrap(), PtyEvent::Unknown);
    }
}

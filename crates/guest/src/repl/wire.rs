//! What the agent and the driver say to each other; the other half is `guest/repl/driver.py`.
//!
//! All numbers are native-endian: both ends are on one machine.

/// The program of the Python process.
pub(super) const DRIVER: &str = include_str!("../../../../guest/repl/driver.py");

/// Bytes of a request before its payload.
pub(super) const REQUEST_BYTES: usize = 12;
/// Bytes of an answer.
pub(super) const ANSWER_BYTES: usize = 8;

/// Number of the request that starts the driver.
pub(super) const START_NUMBER: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Start = 1,
    Run = 2,
    /// A run that belongs to a trace: its `traceparent` and a newline come before the code.
    Traced = 3,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) number: u32,
    pub(super) code: i32,
}

/// Reads the driver's text from standard input and runs it. Short, because it is what `ps` shows.
pub(super) fn bootstrap() -> String {
    let length = DRIVER.len();
    format!(
        "import os;b=b''\nwhile len(b)<{length}:b+=os.read(0,{length}-len(b))\n\
         exec(compile(b,'<podflare>','exec'),{{'__name__':'podflare'}})"
    )
}

pub(super) fn request(length: usize, number: u32, kind: Kind) -> [u8; REQUEST_BYTES] {
    // A request's payload comes from a frame, which is shorter than 2^32.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let mut bytes = [0; REQUEST_BYTES];
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..8].copy_from_slice(&number.to_ne_bytes());
    bytes[8..].copy_from_slice(&(kind as u32).to_ne_bytes());
    bytes
}

impl Answer {
    pub(super) fn decode([a, b, c, d, e, f, g, h]: [u8; ANSWER_BYTES]) -> Self {
        Self {
            number: u32::from_ne_bytes([a, b, c, d]),
            code: i32::from_ne_bytes([e, f, g, h]),
        }
    }
}

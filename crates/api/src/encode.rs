//! Raw output bytes in, NDJSON events out.
//!
//! The official client joins the `data` of events with newlines, so an event is exactly one line of output
//! without its newline, however the bytes were cut on their way here. A line that is not finished waits until it
//! is, or until the run ends. Bytes that are not UTF-8 become U+FFFD, as `String::from_utf8_lossy` would do it for
//! the whole line. The JSON is pure ASCII: the client splits the stream at every Unicode line end.
//!
//! Each byte is looked at once and copied once: a complete line goes straight to the output buffer, the start of
//! an unfinished one is kept already encoded.

use crate::event::EventKind;

/// Longest line kept back while it waits for its newline, in bytes of its encoded form (a control character takes
/// six). A longer one is cut into several events, so that a guest cannot fill the host's memory.
pub const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An unfinished line longer than this hands over its buffer instead of having it copied.
const SWAP_BYTES_MIN: usize = 16 * 1024;

/// Which of a run's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
}

/// Encodes the events of one exec.
#[derive(Debug)]
pub struct EventEncoder {
    /// Finished events, to be sent.
    out: Vec<u8>,
    /// `seq` of the next event.
    seq: u64,
    line_bytes_max: usize,
    stdout: Partial,
    stderr: Partial,
}

/// A line whose newline has not come yet.
#[derive(Debug, Default)]
struct Partial {
    /// The event so far, or empty when the line has not begun.
    encoded: Vec<u8>,
    /// The beginning of a UTF-8 character whose rest has not come yet: at most three bytes.
    carry: Carry,
}

#[derive(Clone, Copy, Debug, Default)]
struct Carry {
    bytes: [u8; 4],
    len: usize,
}

impl Default for EventEncoder {
    fn default() -> Self {
        Self::new(LINE_BYTES_MAX)
    }
}

impl EventEncoder {
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        Self {
            out: Vec::new(),
            seq: 0,
            line_bytes_max,
            stdout: Partial::default(),
            stderr: Partial::default(),
        }
    }

    /// Goes on with a run whose first events another has encoded.
    #[must_use]
    pub fn starting_at(seq: u64, line_bytes_max: usize) -> Self {
        Self {
            seq,
            ..Self::new(line_bytes_max)
        }
    }

    /// `seq` of the next event, which is how many there have been.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The bytes of a line that has not ended yet; `None` when they are more than `bytes_max`.
    #[must_use]
    pub fn unfinished(&self, channel: Channel, bytes_max: usize) -> Option<Vec<u8>> {
        let partial = match channel {
            Channel::Stdout => &self.stdout,
            Channel::Stderr => &self.stderr,
        };
        // A byte takes at most six when it is encoded.
        if partial.encoded.len() > bytes_max * 6 {
            return None;
        }
        let text = partial.encoded.get(prefix(channel).len()..).unwrap_or_default();
        let mut bytes = decode_text(text).unwrap_or_default().into_bytes();
        bytes.extend_from_slice(&partial.carry.bytes[..partial.carry.len]);
        (bytes.len() <= bytes_max).then_some(bytes)
    }

    /// Ends lines that have not ended, so that what follows begins one of its own.
    pub fn end_lines(&mut self, ts_ms: u64) {
        let tail = Tail::new(ts_ms);
        for channel in [Channel::Stdout, Channel::Stderr] {
            let mut partial = std::mem::take(self.partial(channel));
            if !partial.is_empty() {
                self.finish_partial(channel, &mut partial, &tail);
            }
        }
    }

    /// Takes output as it came. `ts_ms` is the host's clock, milliseconds since the Unix epoch.
    pub fn output(&mut self, channel: Channel, mut bytes: &[u8], ts_ms: u64) {
        let tail = Tail::new(ts_ms);
        let mut partial = std::mem::take(self.partial(channel));
        while let Some(end) = find_newline(bytes) {
            // Most lines arrive whole: those are encoded where they will be sent from.
            if partial.is_empty() {
                self.out.extend_from_slice(prefix(channel));
                encode(&mut self.out, &mut partial.carry, &bytes[..end]);
                partial.carry.flush(&mut self.out);
                tail.finish(&mut self.out, &mut self.seq);
            } else {
                self.extend(channel, &mut partial, &bytes[..end], &tail);
                self.finish_partial(channel, &mut partial, &tail);
            }
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.extend(channel, &mut partial, bytes, &tail);
        }
        *self.partial(channel) = partial;
    }

    /// Sends what is left of unfinished lines, then the exit event.
    pub fn exit(&mut self, code: i32, ts_ms: u64) {
        self.end_lines(ts_ms);
        let tail = Tail::new(ts_ms);
        self.out.extend_from_slice(br#"{"type":"exit","data":"#);
        if code < 0 {
            self.out.push(b'-');
        }
        push_decimal(&mut self.out, code.unsigned_abs().into());
        tail.finish_number(&mut self.out, &mut self.seq);
    }

    /// Bytes of finished events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes the finished events away.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn partial(&mut self, channel: Channel) -> &mut Partial {
        match channel {
            Channel::Stdout => &mut self.stdout,
            Channel::Stderr => &mut self.stderr,
        }
    }

    /// Adds a piece without newlines to an unfinished line.
    fn extend(&mut self, channel: Channel, partial: &mut Partial, piece: &[u8], tail: &Tail) {
        // Pieces are small against the limit, so looking once per piece overshoots by little.
        for piece in piece.chunks(OUTPUT_STEP) {
            if partial.encoded.len() >= self.line_bytes_max {
                self.finish_partial(channel, partial, tail);
            }
            if partial.encoded.is_empty() {
                partial.encoded.extend_from_slice(prefix(channel));
            }
            encode(&mut partial.encoded, &mut partial.carry, piece);
        }
    }

    fn finish_partial(&mut self, channel: Channel, partial: &mut Partial, tail: &Tail) {
        if partial.encoded.is_empty() {
            partial.encoded.extend_from_slice(prefix(channel));
        }
        partial.carry.flush(&mut partial.encoded);
        tail.finish(&mut partial.encoded, &mut self.seq);
        if self.out.is_empty() && partial.encoded.len() >= SWAP_BYTES_MIN {
            std::mem::swap(&mut self.out, &mut partial.encoded);
        } else {
            self.out.extend_from_slice(&partial.encoded);
        }
        if partial.encoded.capacity() > SWAP_BYTES_MIN {
            partial.encoded = Vec::new();
        } else {
            partial.encoded.clear();
        }
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.encoded.is_empty() && self.carry.len == 0
    }
}

/// Takes back what [`encode`] did.
fn decode_text(encoded: &[u8]) -> Option<String> {
    let mut literal = Vec::with_capacity(encoded.len() + 2);
    literal.push(b'"');
    literal.extend_from_slice(encoded);
    literal.push(b'"');
    serde_json::from_slice(&literal).ok()
}

/// Bytes encoded between two looks at the line limit.
const OUTPUT_STEP: usize = 64 * 1024;

fn prefix(channel: Channel) -> &'static [u8] {
    match channel {
        Channel::Stdout => br#"{"type":"stdout","data":""#,
        Channel::Stderr => br#"{"type":"stderr","data":""#,
    }
}

/// The end of every event of one moment; the clock is written once for all of them.
struct Tail {
    bytes: [u8; 32],
    len: usize,
}

impl Tail {
    fn new(ts_ms: u64) -> Self {
        let mut text = Vec::with_capacity(32);
        text.extend_from_slice(br#","ts":"#);
        push_decimal(&mut text, ts_ms);
        text.extend_from_slice(b"}\n");
        let mut bytes = [0; 32];
        bytes[..text.len()].copy_from_slice(&text);
        Self {
            bytes,
            len: text.len(),
        }
    }

    fn finish(&self, out: &mut Vec<u8>, seq: &mut u64) {
        out.push(b'"');
        self.finish_number(out, seq);
    }

    fn finish_number(&self, out: &mut Vec<u8>, seq: &mut u64) {
        out.extend_from_slice(br#","seq":"#);
        push_decimal(out, *seq);
        *seq += 1;
        out.extend_from_slice(&self.bytes[..self.len]);
    }
}

impl Carry {
    /// The line is over: what was begun stays unfinished.
    fn flush(&mut self, out: &mut Vec<u8>) {
        if self.len > 0 {
            out.extend_from_slice(REPLACEMENT);
            self.len = 0;
        }
    }

    /// Takes bytes until the character is complete or cannot be; gives the bytes it did not use.
    fn resume<'a>(&mut self, out: &mut Vec<u8>, mut bytes: &'a [u8]) -> &'a [u8] {
        while self.len > 0 {
            let Some((byte, rest)) = bytes.split_first() else {
                break;
            };
            self.bytes[self.len] = *byte;
            match str::from_utf8(&self.bytes[..=self.len]) {
                Ok(text) => {
                    push_chars(out, text);
                    self.len = 0;
                }
                Err(error) if error.error_len().is_none() => self.len += 1,
                Err(_) => {
                    // The byte does not belong to what was begun; it starts something of its own.
                    self.flush(out);
                    break;
                }
            }
            bytes = rest;
        }
        bytes
    }
}

const REPLACEMENT: &[u8] = br"\ufffd";

/// Encodes a piece of a line, which holds no newline, as the inside of a JSON string.
fn encode(out: &mut Vec<u8>, carry: &mut Carry, bytes: &[u8]) {
    let mut bytes = carry.resume(out, bytes);
    loop {
        let plain = plain_len(bytes);
        out.extend_from_slice(&bytes[..plain]);
        bytes = &bytes[plain..];
        let Some(first) = bytes.first() else {
            return;
        };
        if first.is_ascii() {
            push_escaped(out, *first);
            bytes = &bytes[1..];
        } else {
            bytes = encode_wide(out, carry, bytes);
        }
    }
}

/// Encodes a run of bytes that are not ASCII; gives what follows it.
fn encode_wide<'a>(out: &mut Vec<u8>, carry: &mut Carry, bytes: &'a [u8]) -> &'a [u8] {
    let end = bytes.iter().position(u8::is_ascii).unwrap_or(bytes.len());
    let (mut wide, rest) = bytes.split_at(end);
    while !wide.is_empty() {
        let error = match str::from_utf8(wide) {
            Ok(text) => {
                push_chars(out, text);
                break;
            }
            Err(error) => error,
        };
        let (valid, invalid) = wide.split_at(error.valid_up_to());
        // What comes before the error is valid by the error's own word, so nothing is lost to the default.
        push_chars(out, str::from_utf8(valid).unwrap_or_default());
        match error.error_len() {
            None if rest.is_empty() => {
                // A character may go on in the next piece.
                carry.bytes[..invalid.len()].copy_from_slice(invalid);
                carry.len = invalid.len();
                break;
            }
            None => {
                out.extend_from_slice(REPLACEMENT);
                break;
            }
            Some(len) => {
                out.extend_from_slice(REPLACEMENT);
                wide = &invalid[len..];
            }
        }
    }
    rest
}

/// How many bytes at the front stand for themselves in an ASCII JSON string. Eight at a time in an ordinary
/// register: on an emulated CPU vector instructions are slower than this.
fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let mut len = 0;
    let mut words = bytes.chunks_exact(8);
    for word in words.by_ref() {
        let Ok(word) = <[u8; 8]>::try_from(word) else {
            break;
        };
        let word = u64::from_le_bytes(word);
        // The high bit of each byte that needs a closer look: a zero byte borrows from it.
        let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
        let control = word.wrapping_sub(ONES * 0x20);
        let special = (quote | backslash | control | word) & HIGHS;
        if special != 0 {
            // Borrows travel upwards only, so the lowest mark is exact.
            return len + special.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + words
        .remainder()
        .iter()
        .position(|byte| !is_plain(*byte))
        .unwrap_or(words.remainder().len())
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii() && byte >= 0x20 && byte != b'"' && byte != b'\\'
}

fn find_newline(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let mut at = 0;
    let mut words = bytes.chunks_exact(8);
    for word in words.by_ref() {
        let Ok(word) = <[u8; 8]>::try_from(word) else {
            break;
        };
        let zero_at_newline = u64::from_le_bytes(word) ^ (ONES * 0x0a);
        let found = zero_at_newline.wrapping_sub(ONES) & !zero_at_newline & HIGHS;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = words.remainder().iter().position(|byte| *byte == b'\n');
    rest.map(|offset| at + offset)
}

fn push_chars(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            push_unit(out, *unit);
        }
    }
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(br#"\""#),
        b'\\' => out.extend_from_slice(br"\\"),
        b'\t' => out.extend_from_slice(br"\t"),
        b'\r' => out.extend_from_slice(br"\r"),
        other => push_unit(out, other.into()),
    }
}

fn push_unit(out: &mut Vec<u8>, unit: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u32| DIGITS[usize::from(unit >> shift & 0xf)];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

impl From<Channel> for EventKind {
    fn from(channel: Channel) -> Self {
        match channel {
            Channel::Stdout => Self::Stdout,
            Channel::Stderr => Self::Stderr,
        }
    }
}

/// Takes any bytes, cut anywhere, and panics unless the result is well-formed: ASCII, and one JSON event per line.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz_event_encoder(data: &[u8]) {
    let mut encoder = EventEncoder::new(64);
    let mut rest = data;
    while let Some((control, bytes)) = rest.split_first() {
        let channel = if control & 1 == 0 {
            Channel::Stdout
        } else {
            Channel::Stderr
        };
        let (piece, more) = bytes.split_at(usize::from(control >> 1).min(bytes.len()));
        encoder.output(channel, piece, u64::MAX);
        rest = more;
    }
    encoder.exit(i32::MIN, u64::MAX);
    let wire = encoder.take();
    assert!(wire.is_ascii() && wire.ends_with(b"\n"));
    for line in wire.trim_ascii_end().split(|byte| *byte == b'\n') {
        assert!(serde_json::from_slice::<crate::event::Event>(line).is_ok());
    }
}

#[cfg(test)]
mod tests;

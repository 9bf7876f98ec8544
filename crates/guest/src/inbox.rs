//! Cuts the bytes of a connection into requests. No I/O here, so that it can be fuzzed.

use std::io::{self, Read};

#[cfg(any(test, feature = "fuzzing"))]
use agent_proto::Request;
use agent_proto::{Direction, HEADER_LEN, Header, MessageError};

/// Least room for one read, in bytes. Enough for most requests; room is memory that is touched, which in a fresh clone is
/// a fault for each page.
const READ_BYTES: usize = 2 * 1024;
/// Memory kept between requests, in bytes; more was for one large request and is given back.
const KEPT_BYTES: usize = 256 * 1024;

/// Bytes received and not yet used. Never grows much beyond what the peer has really sent, whatever length a header
/// claims.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Received bytes, then room; the room is not cleared again for each read.
    buffer: Vec<u8>,
    used: usize,
}

impl Inbox {
    /// Whether bytes wait here that belong to no complete request.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Reads once from `source`; zero bytes mean its end.
    pub(crate) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.buffer.len() - self.used < READ_BYTES {
            // Doubled, so that a large request is not copied for each of its pieces.
            self.buffer.resize(self.used * 2 + READ_BYTES, 0);
        }
        let count = source.read(&mut self.buffer[self.used..])?;
        self.used += count;
        Ok(count)
    }

    /// All bytes that were received and not used, which are then no frames.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.buffer);
        all.truncate(std::mem::take(&mut self.used));
        all
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn next(&mut self) -> Result<Option<Request>, MessageError> {
        self.next_with(Request::decode)
    }

    /// The next complete frame, if all of it is here, as `decode` understands its kind and its body.
    pub(crate) fn next_with<T>(
        &mut self,
        decode: impl FnOnce(u8, &[u8]) -> Result<T, MessageError>,
    ) -> Result<Option<T>, MessageError> {
        let received = &self.buffer[..self.used];
        let Some(header) = received.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::decode(*header, Direction::HostToGuest).map_err(MessageError::Frame)?;
        let end = HEADER_LEN + header.body_len;
        let Some(body) = received.get(HEADER_LEN..end) else {
            return Ok(None);
        };
        let request = decode(header.kind, body)?;
        self.buffer.copy_within(end..self.used, 0);
        self.used -= end;
        if self.buffer.len() > KEPT_BYTES.max(self.used) {
            self.buffer.truncate(KEPT_BYTES.max(self.used));
            self.buffer.shrink_to_fit();
        }
        Ok(Some(request))
    }
}

/// Feeds arbitrary bytes in arbitrary pieces: no panic, and the pieces do not change what is understood.
#[cfg(any(test, feature = "fuzzing"))]
pub fn fuzz_inbox(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else {
        return;
    };
    let piece = usize::from(*piece).max(1);
    let whole = requests(stream.chunks(stream.len().max(1)));
    assert_eq!(
        requests(stream.chunks(piece)),
        whole,
        "pieces changed the meaning"
    );
}

#[cfg(any(test, feature = "fuzzing"))]
fn requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Request>, bool) {
    let mut inbox = Inbox::default();
    let mut found = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            if inbox.fill(&mut piece).is_err() {
                return (found, true);
            }
        }
        loop {
            match inbox.next() {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_proto::{ExecRequest, Language};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_pieces_do_not_matter(data: Vec<u8>) {
            fuzz_inbox(&data);
        }

        #[test]
        fn requests_arrive_whole_however_they_are_cut(codes: Vec<String>, piece in 1..50_usize) {
            let sent: Vec<_> = codes
                .into_iter()
                .map(|code| Request::Exec(ExecRequest { language: Language::Bash, run: 1, timeout_ms: None, traceparent: None, code }))
                .collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|request| request.encode().unwrap()).collect();
            prop_assert_eq!(requests(bytes.chunks(piece)), (sent, false));
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut inbox = Inbox::default();
        let header = Header {
            kind: 3,
            body_len: agent_proto::frame::HOST_BODY_MAX,
        };
        inbox
            .fill(&mut &header.encode(Direction::HostToGuest).unwrap()[..])
            .unwrap();
        assert!(matches!(inbox.next(), Ok(None)));
        assert!(inbox.buffer.capacity() <= 2 * READ_BYTES);
    }
}

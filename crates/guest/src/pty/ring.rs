//! The newest output of a session, in bounded memory. Plain data: no locks, no descriptors.

use std::collections::VecDeque;

use agent_proto::PTY_KEPT_BYTES;

/// Bytes, numbered from the first one ever written.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    /// Number of the first byte that is kept.
    start: u64,
}

impl Ring {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let newest = &bytes[bytes.len().saturating_sub(PTY_KEPT_BYTES)..];
        self.start += (bytes.len() - newest.len()) as u64;
        // Room is made first, so that memory never grows beyond what is kept.
        let excess = (self.bytes.len() + newest.len()).saturating_sub(PTY_KEPT_BYTES);
        self.bytes.drain(..excess);
        self.start += excess as u64;
        self.bytes.extend(newest);
    }

    /// Number of the next byte that will be written.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// At most `max` bytes from number `since` on, with the number of the first: a later one where the oldest are not
    /// kept any more, the end where there are none yet.
    pub(super) fn read(&self, since: u64, max: usize) -> (u64, Vec<u8>) {
        let first = since.clamp(self.start, self.end());
        let from = usize::try_from(first - self.start).unwrap_or(usize::MAX);
        let to = self.bytes.len().min(from.saturating_add(max));
        (first, self.bytes.range(from..to).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Sizes are chosen so that some histories overflow many times and others never.
        #[test]
        fn a_reader_gets_the_bytes_it_asked_for_or_the_oldest_kept(
            history in proptest::collection::vec(prop_oneof![0..9_usize, 1000..900_000_usize], 0..12),
            since in 0..4_000_000_u64,
            max in 0..200_000_usize,
        ) {
            let (mut ring, mut model) = (Ring::default(), Vec::new());
            for length in history {
                let piece: Vec<u8> = (0..length).map(|i| u8::try_from((model.len() + i) % 251).unwrap()).collect();
                ring.push(&piece);
                model.extend(piece);
                prop_assert!(ring.bytes.len() <= PTY_KEPT_BYTES);
                prop_assert_eq!(ring.end(), model.len() as u64);
                prop_assert_eq!(ring.bytes.len(), model.len().min(PTY_KEPT_BYTES));
            }
            let (first, bytes) = ring.read(since, max);
            let oldest = model.len().saturating_sub(PTY_KEPT_BYTES) as u64;
            prop_assert_eq!(first, since.clamp(oldest, model.len() as u64));
            let from = usize::try_from(first).unwrap();
            prop_assert_eq!(&bytes[..], &model[from..model.len().min(from + max)]);
        }
    }

    #[test]
    fn memory_does_not_exceed_what_is_kept() {
        let mut ring = Ring::default();
        for _ in 0..40 {
            ring.push(&[7; 65_521]);
        }
        assert!(ring.bytes.capacity() <= 2 * PTY_KEPT_BYTES);
    }
}

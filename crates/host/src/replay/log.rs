//! The bounded log itself: chunks of events, oldest out first.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Offsets;
use super::shorten::shortened;

/// Events that a replay gives.
pub(crate) const EVENTS_MAX: usize = 1000;
/// Memory for one sandbox's events, in bytes. Children share what they have inherited.
pub(crate) const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest event that is kept whole, in bytes of its encoded form. Chunks are mostly shorter, so few are looked into.
pub(crate) const EVENT_BYTES_MAX: usize = 256 * 1024;

/// What a chunk costs beside its bytes.
const CHUNK_COST: usize = 128;

/// Whole events of one run, each ended by a newline.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) events: usize,
    pub(super) run: u64,
    /// As the guest knows the run.
    pub(super) name: u64,
    /// Nothing of the run comes after it.
    pub(super) ended: bool,
    /// The run's output before and after it.
    pub(super) from: Offsets,
    pub(super) to: Offsets,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) chunks: VecDeque<Chunk>,
    events: usize,
    cost: usize,
    /// Position of the next event.
    next: u64,
}

impl Log {
    /// Takes a chunk, and gives it as it is kept.
    pub(super) fn push(&mut self, mut chunk: Chunk) -> Chunk {
        if chunk.bytes.len() > EVENT_BYTES_MAX {
            chunk.bytes = shortened(chunk.bytes);
        }
        self.next += chunk.events as u64;
        self.events += chunk.events;
        self.cost += chunk.cost();
        self.chunks.push_back(chunk.clone());
        while let Some(oldest) = self.chunks.front()
            && (self.events - oldest.events >= EVENTS_MAX || self.cost > BYTES_MAX)
        {
            self.events -= oldest.events;
            self.cost -= oldest.cost();
            self.chunks.pop_front();
        }
        chunk
    }

    /// Position of the first event of a replay.
    pub(super) fn begin(&self) -> u64 {
        self.next - self.events.min(EVENTS_MAX) as u64
    }

    /// The events from `position` to the end of its chunk, and the position after them.
    pub(super) fn at(&self, position: u64) -> Option<(Bytes, u64)> {
        let mut first = self.next - self.events as u64;
        let position = position.max(first);
        for chunk in &self.chunks {
            let end = first + chunk.events as u64;
            if position < end {
                let skipped = usize::try_from(position - first).unwrap_or(0);
                return Some((chunk.without_first(skipped), end));
            }
            first = end;
        }
        None
    }

    /// Keeps only chunks of which this is true.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Chunk) -> bool) {
        self.chunks.retain(keep);
        self.events = self.chunks.iter().map(|chunk| chunk.events).sum();
        self.cost = self.chunks.iter().map(Chunk::cost).sum();
        self.next = self.events as u64;
    }
}

impl Chunk {
    fn cost(&self) -> usize {
        self.bytes.len() + CHUNK_COST
    }

    fn without_first(&self, events: usize) -> Bytes {
        if events == 0 {
            return self.bytes.clone();
        }
        let ends = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let end = ends.map(|(at, _)| at + 1).nth(events - 1);
        self.bytes.slice(end.unwrap_or(self.bytes.len())..)
    }
}

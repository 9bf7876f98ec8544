//! Cutting a log where its machine was cloned.

use api::{Event, EventData, EventKind};

use super::Offsets;
use super::log::{Chunk, Log};

/// Longest beginning of a line that goes on in the clone, in bytes.
pub(super) const BEGUN_BYTES_MAX: usize = 256 * 1024;

/// Where a run goes on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seam {
    /// `seq` of the next event.
    pub(super) seq: u64,
    /// Output up to the last whole event.
    pub(super) whole: Offsets,
    /// Of the lines that go on: what was written, as far as the log has it.
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Removes what `run` wrote beyond `bound`, and all that came later.
pub(super) fn cut(log: &mut Log, run: u64, bound: Offsets) -> Seam {
    let mut seam = Seam::default();
    let mut kept = Vec::new();
    for chunk in &log.chunks {
        if chunk.run != run {
            if chunk.run < run {
                kept.push(chunk.clone());
            }
        } else if chunk.to.within(bound) && !chunk.ended {
            seam.whole = chunk.to;
            seam.seq = last_seq(chunk).map_or(seam.seq, |seq| seq + 1);
            kept.push(chunk.clone());
        } else if let Some(chunk) = part(chunk, bound, &mut seam) {
            kept.push(chunk);
        }
    }
    log.chunks = kept.into();
    log.retain(|_| true);
    seam
}

/// Those events of a chunk that are within bounds. What the first one beyond has within them is where it goes on.
fn part(chunk: &Chunk, bound: Offsets, seam: &mut Seam) -> Option<Chunk> {
    let mut at = chunk.from;
    let mut bytes = Vec::new();
    let mut events = 0;
    for line in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<Event>(line) else {
            continue;
        };
        let EventData::Line(text) = &event.data else {
            continue;
        };
        let (at, whole, bound, begun) = match event.kind {
            EventKind::Stdout => (
                &mut at.stdout,
                &mut seam.whole.stdout,
                bound.stdout,
                &mut seam.stdout,
            ),
            EventKind::Stderr => (
                &mut at.stderr,
                &mut seam.whole.stderr,
                bound.stderr,
                &mut seam.stderr,
            ),
            EventKind::Exit => continue,
        };
        let (start, end) = (*at, *at + text.len() as u64 + 1);
        *at = end;
        if end <= bound {
            bytes.extend_from_slice(line);
            events += 1;
            *whole = end;
            seam.seq = event.seq + 1;
        } else if start < bound && begun.is_empty() {
            let len = usize::try_from(bound - start)
                .unwrap_or(usize::MAX)
                .min(text.len());
            *whole = start;
            *begun = text.as_bytes()[..len.min(BEGUN_BYTES_MAX)].to_vec();
        }
    }
    (events > 0).then(|| Chunk {
        bytes: bytes.into(),
        events,
        run: chunk.run,
        name: chunk.name,
        ended: false,
        from: chunk.from,
        to: seam.whole,
    })
}

/// Of its last event.
pub(super) fn last_seq(chunk: &Chunk) -> Option<u64> {
    last_event(chunk).map(|event| event.seq)
}

fn last_event(chunk: &Chunk) -> Option<Event> {
    let line = chunk
        .bytes
        .trim_ascii_end()
        .rsplit(|byte| *byte == b'\n')
        .next()?;
    serde_json::from_slice(line).ok()
}

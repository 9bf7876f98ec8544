//! From a parent's replay to its children's.
//!
//! ```text
//!  Succession::begin ── clone made ── look ──▶ child without a run: heir()
//!        (what runs now)      (what the host has by then)   └▶ with one: heir_of(where it was cut) + a scribe that goes on
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_proto::Carried;
use api::{Channel, EventEncoder};

use super::cut::{BEGUN_BYTES_MAX, Seam, cut};
use super::log::Log;
use super::{Offsets, Replay, Scribe, State};
use crate::clock;

/// A carried run's line that is longer than this, in bytes, is cut into several events: nobody slows the run down
/// while its output piles up.
pub(super) const LINE_BYTES_MAX: usize = 1024 * 1024;

/// A fork in progress.
#[derive(Debug)]
pub(crate) struct Succession {
    pub(super) parent: Arc<Replay>,
    /// Runs asked for before the clone.
    pub(super) asked: u64,
    /// Whether one was in progress or waiting.
    pub(super) busy: bool,
    /// The last run that had spoken before the clone, and whether it was still at it.
    pub(super) last: u64,
    pub(super) speaking: bool,
    /// What there was at the last look.
    pub(super) log: Log,
    /// Lines of the run that speaks, as they are unfinished.
    pub(super) unfinished: Option<(u64, Offsets, Vec<u8>, Vec<u8>)>,
}

impl Succession {
    /// Before the clone is ordered.
    pub(crate) fn begin(parent: &Arc<Replay>, busy: bool) -> Self {
        let asked = parent.asked.load(Ordering::Relaxed);
        let state = parent.lock();
        Self {
            asked,
            busy,
            last: state.runs,
            speaking: state.speaking.is_some(),
            log: state.log.clone(),
            unfinished: None,
            parent: Arc::clone(parent),
        }
    }

    /// After it has been made: whether a run may be in progress in it.
    pub(crate) fn look(&mut self) -> bool {
        let asked = self.parent.asked.load(Ordering::Relaxed);
        if !self.busy && asked == self.asked {
            return false;
        }
        let state = self.parent.lock();
        self.log = state.log.clone();
        self.unfinished = unfinished(&state);
        true
    }

    /// For a child without a run in progress.
    pub(crate) fn heir(&self) -> Arc<Replay> {
        let mut log = self.log.clone();
        // What has begun since is the parent's alone.
        log.retain(|chunk| chunk.run <= self.last);
        replay(log, self.last)
    }

    /// For a child in which a run goes on, and what writes it down.
    pub(crate) fn heir_of(&self, carried: Carried) -> (Arc<Replay>, Scribe) {
        let bound = Offsets::from(carried);
        let run = if self.speaking { self.last } else { self.last + 1 };
        let mut log = self.log.clone();
        let mut seam = cut(&mut log, run, bound);
        if let Some((speaking, whole, stdout, stderr)) = &self.unfinished
            && *speaking == run
        {
            take_over(
                &mut seam.stdout,
                seam.whole.stdout,
                bound.stdout,
                whole.stdout,
                stdout,
            );
            take_over(
                &mut seam.stderr,
                seam.whole.stderr,
                bound.stderr,
                whole.stderr,
                stderr,
            );
        }
        let replay = replay(log, run - 1);
        let scribe = resume(&replay, carried.run, &seam, bound);
        (replay, scribe)
    }
}

/// The beginning of a line that the parent's scribe still holds: of what is unfinished there, as much as was written
/// when the clone was made.
fn take_over(begun: &mut Vec<u8>, whole: u64, bound: u64, held_from: u64, held: &[u8]) {
    if begun.is_empty() && whole == held_from && bound > whole {
        let len = usize::try_from(bound - whole).unwrap_or(usize::MAX);
        *begun = held[..held.len().min(len)].to_vec();
    }
}

fn resume(replay: &Arc<Replay>, name: u64, seam: &Seam, bound: Offsets) -> Scribe {
    let mut scribe = Scribe::with(replay, name, EventEncoder::starting_at(seam.seq, LINE_BYTES_MAX));
    let missing = |whole: u64, begun: &[u8], bound: u64| bound.saturating_sub(whole + begun.len() as u64);
    let lost = missing(seam.whole.stdout, &seam.stdout, bound.stdout)
        + missing(seam.whole.stderr, &seam.stderr, bound.stderr);
    {
        let mut writing = scribe.pen.lock();
        writing.output = seam.whole;
        (writing.whole, writing.chunked) = (seam.whole, seam.whole);
    }
    let now = clock::now_ms();
    scribe.output(Channel::Stdout, &seam.stdout, now);
    scribe.output(Channel::Stderr, &seam.stderr, now);
    if lost > 0 {
        scribe.remark(&format!("{lost} bytes of output before this are not kept"), now);
    }
    // What is missing counts, so that a child of this child is cut at the right place.
    let mut writing = scribe.pen.lock();
    writing.output = bound;
    if lost > 0 {
        writing.whole = bound;
    }
    drop(writing);
    scribe
}

fn replay(log: Log, runs: u64) -> Arc<Replay> {
    let replay = Replay::default();
    {
        let mut state = replay.lock();
        state.log = log;
        state.runs = runs;
    }
    Arc::new(replay)
}

fn unfinished(state: &State) -> Option<(u64, Offsets, Vec<u8>, Vec<u8>)> {
    let (run, pen) = state.speaking.as_ref()?;
    let writing = pen.lock();
    let lines = |channel| {
        writing
            .encoder
            .unfinished(channel, BEGUN_BYTES_MAX)
            .unwrap_or_default()
    };
    Some((
        *run,
        writing.whole,
        lines(Channel::Stdout),
        lines(Channel::Stderr),
    ))
}

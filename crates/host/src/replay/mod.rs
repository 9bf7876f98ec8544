//! What a sandbox's runs have said lately: their last events, as they were sent.
//!
//! ```text
//!  run ─▶ scribe (bytes in, events out) ─▶ client
//!                    └── the same buffer ─▶ log ─▶ replay: the last 1000, then live for who follows
//!                                            │
//!  fork: a child starts with its parent's log, cut where the clone was made, and a scribe that goes on from there
//! ```
//!
//! The log shares the buffers that were sent to clients, so an exec pays for a queue entry and not for a copy. It is
//! bounded three ways: 1000 events, 4 MiB, and no event longer than 256 KiB: a
//! longer one is kept as its beginning, a mark and its length.
//!
//! **Where a clone was made** the agent of the child tells: how much of the run's output its parent's connection had
//! taken. Events beyond that are cut off the child's copy, and of the line that the cut goes through the child keeps
//! what was written. So the child's replay has every byte once, whenever the host came to copy it.
//!
//! **A daemon that is killed** loses nothing that a client has seen: each chunk is in the sandbox's [journal], a file beside
//! its VM, before it is handed on. The next daemon reads it, and asks the guest for what is missing ([`Replay::known`]).

mod cut;
mod journal;
mod kept;
mod log;
mod resume;
mod shorten;
mod succession;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_proto::Carried;
use api::{Channel, EventEncoder};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use journal::Journal;
pub(crate) use kept::KeptError;
use log::{Chunk, Log};
pub(crate) use succession::Succession;

/// One sandbox's replay.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    state: Mutex<State>,
    /// Runs that were asked for, whatever became of them.
    asked: AtomicU64,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    log: Log,
    /// Runs that have begun to speak; numbers the last of them.
    runs: u64,
    /// The one whose turn it is.
    speaking: Option<(u64, Arc<Pen>)>,
    journal: Option<Journal>,
}

/// Output of one run, so far, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offsets {
    stdout: u64,
    stderr: u64,
}

/// Makes events of one run's output and puts them into the replay.
///
/// The run's own task writes; a fork looks at what is unfinished.
#[derive(Debug)]
pub(crate) struct Scribe {
    replay: Arc<Replay>,
    pen: Arc<Pen>,
    /// Its number, once it has spoken.
    run: Option<u64>,
}

#[derive(Debug)]
struct Pen(Mutex<Writing>);

#[derive(Debug)]
struct Writing {
    encoder: EventEncoder,
    /// As the guest knows the run.
    name: u64,
    /// It has come to its end.
    ended: bool,
    /// All output, and as far as it has been made events of.
    output: Offsets,
    whole: Offsets,
    /// The same at the end of the last chunk.
    chunked: Offsets,
    chunked_seq: u64,
}

impl Replay {
    /// One that is written down, there.
    pub(crate) fn kept_in(path: PathBuf) -> Arc<Self> {
        let replay = Self::default();
        replay.lock().journal = Some(Journal::new(path));
        Arc::new(replay)
    }

    /// From now on it is written down, with all there is already.
    pub(crate) fn keep_in(&self, path: PathBuf) {
        let mut journal = Journal::new(path);
        let mut state = self.lock();
        for chunk in &state.log.chunks {
            journal.append(chunk);
        }
        state.journal = Some(journal);
    }

    /// A run is asked for.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// All there is, at most 1000 events.
    pub(crate) fn all(&self) -> Vec<Bytes> {
        let state = self.lock();
        let (mut position, mut pieces) = (state.log.begin(), Vec::new());
        while let Some((bytes, next)) = state.log.at(position) {
            pieces.push(bytes);
            position = next;
        }
        pieces
    }

    /// Where the last 1000 events begin.
    pub(crate) fn begin(&self) -> u64 {
        self.lock().log.begin()
    }

    /// Events from a position on, and the position after them. What is not kept any more is left out.
    pub(crate) fn at(&self, position: u64) -> Option<(Bytes, u64)> {
        self.lock().log.at(position)
    }

    /// Wakes when something has changed since it was enabled.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whoever follows looks again.
    pub(crate) fn tell(&self) {
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scribe {
    /// Of the run that the guest knows by that name.
    pub(crate) fn new(replay: &Arc<Replay>, name: u64) -> Self {
        Self::with(replay, name, EventEncoder::default())
    }

    fn with(replay: &Arc<Replay>, name: u64, encoder: EventEncoder) -> Self {
        let chunked_seq = encoder.seq();
        let writing = Writing {
            encoder,
            name,
            ended: false,
            output: Offsets::default(),
            whole: Offsets::default(),
            chunked: Offsets::default(),
            chunked_seq,
        };
        Self {
            replay: Arc::clone(replay),
            pen: Arc::new(Pen(Mutex::new(writing))),
            run: None,
        }
    }

    /// It is this run's turn.
    pub(crate) fn begin(&mut self) {
        if self.run.is_none() {
            let mut state = self.replay.lock();
            state.runs += 1;
            self.run = Some(state.runs);
            state.speaking = Some((state.runs, Arc::clone(&self.pen)));
        }
    }

    pub(crate) fn output(&mut self, channel: Channel, bytes: &[u8], now_ms: u64) {
        self.begin();
        self.pen.lock().output(channel, bytes, now_ms);
    }

    /// Something of the host's own, in lines of their own on the error stream.
    pub(crate) fn remark(&mut self, text: &str, now_ms: u64) {
        self.begin();
        let mut writing = self.pen.lock();
        writing.encoder.end_lines(now_ms);
        let line = format!("podflare: {text}\n");
        writing.encoder.output(Channel::Stderr, line.as_bytes(), now_ms);
    }

    pub(crate) fn exit(&mut self, code: i32, now_ms: u64) {
        self.begin();
        {
            let mut writing = self.pen.lock();
            writing.encoder.exit(code, now_ms);
            writing.ended = true;
        }
        self.end();
    }

    /// Whether the run has spoken.
    pub(crate) fn has_begun(&self) -> bool {
        self.run.is_some()
    }

    /// Bytes of finished events.
    pub(crate) fn len(&self) -> usize {
        self.pen.lock().encoder.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pen.lock().encoder.is_empty()
    }

    /// Takes the finished events away, for the client; the replay keeps them too.
    pub(crate) fn take(&mut self) -> Bytes {
        let chunk = self.pen.lock().chunk(self.run.unwrap_or(0));
        let bytes = chunk.bytes.clone();
        if !bytes.is_empty() {
            self.replay.lock().push(chunk);
            self.replay.tell();
        }
        bytes
    }

    /// Nothing more comes.
    fn end(&mut self) {
        let mut state = self.replay.lock();
        state.speaking.take_if(|(run, _)| Some(*run) == self.run);
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    /// It is written down before anybody sees it.
    fn push(&mut self, chunk: Chunk) {
        let chunk = self.log.push(chunk);
        if let Some(journal) = &mut self.journal {
            journal.append(&chunk);
        }
    }
}

impl Pen {
    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing {
    fn output(&mut self, channel: Channel, bytes: &[u8], now_ms: u64) {
        let before = self.encoder.seq();
        self.encoder.output(channel, bytes, now_ms);
        let output = self.output.of(channel);
        let begun_at = *output;
        *output += bytes.len() as u64;
        let all = *output;
        if self.encoder.seq() != before {
            // A line that was cut for its length has no newline.
            let end = bytes.iter().rposition(|byte| *byte == b'\n');
            *self.whole.of(channel) = end.map_or(all, |end| begun_at + end as u64 + 1);
        }
    }

    fn chunk(&mut self, run: u64) -> Chunk {
        let seq = self.encoder.seq();
        let chunk = Chunk {
            bytes: self.encoder.take().into(),
            events: usize::try_from(seq - self.chunked_seq).unwrap_or(usize::MAX),
            run,
            name: self.name,
            ended: self.ended,
            from: self.chunked,
            to: self.whole,
        };
        (self.chunked, self.chunked_seq) = (self.whole, seq);
        chunk
    }
}

impl Offsets {
    fn of(&mut self, channel: Channel) -> &mut u64 {
        match channel {
            Channel::Stdout => &mut self.stdout,
            Channel::Stderr => &mut self.stderr,
        }
    }

    /// Whether nothing here is beyond.
    fn within(self, bound: Self) -> bool {
        self.stdout <= bound.stdout && self.stderr <= bound.stderr
    }
}

impl From<Carried> for Offsets {
    fn from(carried: Carried) -> Self {
        Self {
            stdout: carried.stdout_bytes,
            stderr: carried.stderr_bytes,
        }
    }
}

#[cfg(test)]
mod tests;

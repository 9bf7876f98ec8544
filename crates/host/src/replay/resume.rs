//! From the replay of a daemon that is gone to that of the next.

use std::path::PathBuf;
use std::sync::Arc;

use agent_proto::{Resume, Resumed};
use api::EventEncoder;

use super::cut::last_seq;
use super::journal::Journal;
use super::log::Chunk;
use super::succession::LINE_BYTES_MAX;
use super::{Offsets, Replay, Scribe};
use crate::clock;

/// The exit code, for the replay alone, of a run whose end nobody has heard of: as if it had been interrupted.
const EXIT_UNHEARD: i32 = 130;

impl Replay {
    /// The replay that was written down there, as far as it is whole. Reads files.
    pub(crate) fn recall(path: PathBuf) -> Arc<Self> {
        let (log, journal) = Journal::recall(path);
        let replay = Self::default();
        {
            let mut state = replay.lock();
            state.runs = log.chunks.back().map_or(0, |last| last.run);
            (state.log, state.journal) = (log, Some(journal));
        }
        Arc::new(replay)
    }

    /// What there is of the last run, for its guest.
    pub(crate) fn known(&self) -> Resume {
        self.last().map_or_else(Resume::default, |last| Resume {
            run: last.name,
            ended: last.ended,
            stdout_bytes: last.to.stdout,
            stderr_bytes: last.to.stderr,
        })
    }

    /// What writes down the rest of a run that its guest goes on with.
    pub(crate) fn resume(self: &Arc<Self>, resumed: &Resumed) -> Scribe {
        match self.last().filter(|last| !last.ended) {
            Some(last) if last.name == resumed.run => self.go_on(&last),
            other => {
                if let Some(last) = other {
                    self.end_unheard(&last);
                }
                Scribe::with(self, resumed.run, EventEncoder::starting_at(0, LINE_BYTES_MAX))
            }
        }
    }

    /// The guest has nothing more to say of the last run: it does not stop in the middle.
    pub(crate) fn close(self: &Arc<Self>) {
        if let Some(last) = self.last().filter(|last| !last.ended) {
            self.end_unheard(&last);
        }
    }

    fn last(&self) -> Option<Chunk> {
        self.lock().log.chunks.back().cloned()
    }

    fn go_on(self: &Arc<Self>, last: &Chunk) -> Scribe {
        let seq = last_seq(last).map_or(0, |seq| seq + 1);
        let mut scribe = Scribe::with(self, last.name, EventEncoder::starting_at(seq, LINE_BYTES_MAX));
        {
            let mut writing = scribe.pen.lock();
            let to: Offsets = last.to;
            (writing.output, writing.whole, writing.chunked) = (to, to, to);
        }
        scribe.run = Some(last.run);
        self.lock().speaking = Some((last.run, Arc::clone(&scribe.pen)));
        scribe
    }

    fn end_unheard(self: &Arc<Self>, last: &Chunk) {
        let mut scribe = self.go_on(last);
        let now = clock::now_ms();
        scribe.remark("the end of this run was lost when the host was restarted", now);
        scribe.exit(EXIT_UNHEARD, now);
        drop(scribe.take());
    }
}

//! A replay on disk: what a sandbox's runs have said, while it is frozen, or by a checkpoint.
//!
//! What is written is a [`Succession`]. Whoever goes on from a checkpoint is a child, and its agent says how far the output
//! of a run that it carries on had come. A space is the sandbox itself, so its agent is told how far the host had come.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::log::{Chunk, Log};
use super::{Offsets, Replay, Succession};

/// No sandbox comes to so many runs; from there on, numbers of runs can still be counted up.
const RUNS_MAX: u64 = 1 << 53;

#[derive(Debug, Error)]
pub(crate) enum KeptError {
    #[error("it is too long")]
    TooLong,
    #[error("it is not what was written")]
    Content(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    last: u64,
    speaking: bool,
    chunks: Vec<KeptChunk>,
    unfinished: Option<Unfinished>,
}

/// Lines that were not finished: of which run, how far it had come, and what was written of them.
#[derive(Serialize, Deserialize)]
struct Unfinished {
    run: u64,
    whole: [u64; 2],
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct KeptChunk {
    text: String,
    events: usize,
    run: u64,
    #[serde(default)]
    name: u64,
    #[serde(default)]
    ended: bool,
    from: [u64; 2],
    to: [u64; 2],
}

impl Succession {
    /// Longest text that is read back: the bound of a log twice over, since quotation marks are escaped.
    pub(crate) const BYTES_MAX: u64 = 4 * super::log::BYTES_MAX as u64;

    /// As a file has it.
    pub(crate) fn write(&self) -> Vec<u8> {
        let chunks = self.log.chunks.iter().map(|chunk| KeptChunk {
            text: String::from_utf8_lossy(&chunk.bytes).into_owned(),
            events: chunk.events,
            run: chunk.run,
            name: chunk.name,
            ended: chunk.ended,
            from: pair(chunk.from),
            to: pair(chunk.to),
        });
        let unfinished = self.unfinished.as_ref();
        let kept = Kept {
            last: self.last,
            speaking: self.speaking,
            chunks: chunks.collect(),
            unfinished: unfinished.map(|(run, whole, stdout, stderr)| Unfinished {
                run: *run,
                whole: pair(*whole),
                stdout: stdout.clone(),
                stderr: stderr.clone(),
            }),
        };
        // Numbers and text, which have a form in JSON.
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    /// Reads it back.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, KeptError> {
        if bytes.len() as u64 > Self::BYTES_MAX {
            return Err(KeptError::TooLong);
        }
        let kept: Kept = serde_json::from_slice(bytes).map_err(KeptError::Content)?;
        let mut log = Log::default();
        for chunk in kept.chunks {
            // Counted anew, so that no number can be out of bounds.
            let events = chunk.text.bytes().filter(|byte| *byte == b'\n').count();
            log.push(Chunk {
                bytes: Bytes::from(chunk.text),
                events,
                run: chunk.run,
                name: chunk.name,
                ended: chunk.ended,
                from: offsets(chunk.from),
                to: offsets(chunk.to),
            });
        }
        let unfinished = kept
            .unfinished
            .map(|of| (of.run, offsets(of.whole), of.stdout, of.stderr));
        Ok(Self {
            parent: Arc::new(Replay::default()),
            asked: 0,
            busy: kept.speaking,
            last: kept.last.min(RUNS_MAX),
            speaking: kept.speaking,
            log,
            unfinished,
        })
    }
}

fn pair(offsets: Offsets) -> [u64; 2] {
    [offsets.stdout, offsets.stderr]
}

fn offsets([stdout, stderr]: [u64; 2]) -> Offsets {
    Offsets { stdout, stderr }
}

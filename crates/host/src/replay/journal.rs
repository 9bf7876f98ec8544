//! A log as a file, for the daemon that comes after this one.
//!
//! ```text
//!  replay    records, newest last          a record: header, then its events as text
//!  replay.1  those before it, once it is full
//! ```
//!
//! A record is appended with one system call and not synced: it has to outlive the daemon and not the machine. When the
//! daemon is killed in the middle of one, only that one is lost, which nobody has been given yet. Two files bound what is
//! kept without anything being copied: together they have all that a [`Log`] may hold.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api::Event;
use bytes::Bytes;

use super::Offsets;
use super::log::{BYTES_MAX, Chunk, EVENTS_MAX, Log};

/// Marks a record, and says how to read it.
const MAGIC: [u8; 4] = *b"PFR1";

/// Magic, flags, length, events, run, name, four offsets, checksum.
const HEADER_BYTES: usize = 4 + 4 + 4 + 4 + 8 + 8 + 4 * 8 + 8;

const ENDED: u32 = 1;

/// More than one record is ever let grow to.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A file is full when it holds this much.
const FILE_BYTES_MAX: usize = BYTES_MAX;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// Opened when there is something to write.
    file: Option<File>,
    bytes: usize,
    events: usize,
    /// Something could not be written: what comes after it would not fit to what is there.
    broken: bool,
}

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            bytes: 0,
            events: 0,
            broken: false,
        }
    }

    /// A run is not made to fail because it cannot be written down.
    pub(super) fn append(&mut self, chunk: &Chunk) {
        if self.broken {
            return;
        }
        if let Err(error) = self.try_append(chunk) {
            self.broken = true;
            tracing::warn!(path = %self.path.display(), %error, "cannot write down what a run has said");
        }
    }

    fn try_append(&mut self, chunk: &Chunk) -> io::Result<()> {
        if self.bytes >= FILE_BYTES_MAX || self.events >= EVENTS_MAX {
            self.file = None;
            (self.bytes, self.events) = (0, 0);
            fs::rename(&self.path, older(&self.path))?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let options = options.create(true).append(true).mode(0o600);
                self.file.insert(options.open(&self.path)?)
            }
        };
        let mut record = Vec::with_capacity(HEADER_BYTES + chunk.bytes.len());
        header(&mut record, chunk);
        record.extend_from_slice(&chunk.bytes);
        file.write_all(&record)?;
        self.bytes += record.len();
        self.events += chunk.events;
        Ok(())
    }

    /// The log that was written there, as far as it is whole, and the journal to go on with.
    pub(super) fn recall(path: PathBuf) -> (Log, Self) {
        let mut log = Log::default();
        read(&older(&path), &mut log);
        let read = read(&path, &mut log);
        let mut journal = Self::new(path);
        (journal.bytes, journal.events) = (read.bytes, read.events);
        if read.damaged {
            // What is appended must be found again.
            let cut = OpenOptions::new()
                .write(true)
                .open(&journal.path)
                .and_then(|file| file.set_len(read.bytes as u64));
            journal.broken = cut.is_err();
        }
        (log, journal)
    }
}

/// What was found in one file.
#[derive(Default)]
struct ReadBack {
    /// Of whole records at its beginning.
    bytes: usize,
    events: usize,
    damaged: bool,
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1")
}

fn read(path: &Path, log: &mut Log) -> ReadBack {
    let mut read = ReadBack::default();
    let Ok(file) = File::open(path) else {
        return read;
    };
    let mut text = Vec::new();
    let bound = (FILE_BYTES_MAX + HEADER_BYTES + BODY_BYTES_MAX) as u64;
    if file.take(bound).read_to_end(&mut text).is_err() {
        read.damaged = true;
        return read;
    }
    let text = Bytes::from(text);
    while read.bytes < text.len() {
        let Some((chunk, len)) = record(&text.slice(read.bytes..)) else {
            read.damaged = true;
            break;
        };
        read.bytes += len;
        read.events += chunk.events;
        log.push(chunk);
    }
    read
}

fn header(record: &mut Vec<u8>, chunk: &Chunk) {
    let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    record.extend_from_slice(&MAGIC);
    record.extend_from_slice(&(if chunk.ended { ENDED } else { 0 }).to_le_bytes());
    record.extend_from_slice(&short(chunk.bytes.len()));
    record.extend_from_slice(&short(chunk.events));
    for number in [
        chunk.run,
        chunk.name,
        chunk.from.stdout,
        chunk.from.stderr,
        chunk.to.stdout,
        chunk.to.stderr,
    ] {
        record.extend_from_slice(&number.to_le_bytes());
    }
    let sum = checksum(record);
    record.extend_from_slice(&sum.to_le_bytes());
}

/// The record at the beginning of `text`, and its length; `None` when there is no whole one.
fn record(text: &Bytes) -> Option<(Chunk, usize)> {
    let header: &[u8; HEADER_BYTES] = text.first_chunk()?;
    let (fields, sum) = header.split_at(HEADER_BYTES - 8);
    if fields[..4] != MAGIC || sum != checksum(fields).to_le_bytes() {
        return None;
    }
    let short = |at: usize| fields.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let long = |number: usize| {
        let at = 16 + 8 * number;
        fields.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
    };
    let len = usize::try_from(short(8)?).ok()?;
    let events = usize::try_from(short(12)?).ok()?;
    let end = HEADER_BYTES + len;
    if len > BODY_BYTES_MAX || end > text.len() {
        return None;
    }
    let bytes = text.slice(HEADER_BYTES..end);
    let chunk = Chunk {
        events,
        run: long(0)?,
        name: long(1)?,
        ended: short(4)? & ENDED != 0,
        from: Offsets {
            stdout: long(2)?,
            stderr: long(3)?,
        },
        to: Offsets {
            stdout: long(4)?,
            stderr: long(5)?,
        },
        bytes,
    };
    is_events(&chunk).then_some((chunk, end))
}

/// A client gets these lines as they are.
fn is_events(chunk: &Chunk) -> bool {
    let mut lines = 0;
    let whole = chunk.bytes.split_inclusive(|byte| *byte == b'\n').all(|line| {
        lines += 1;
        line.ends_with(b"\n") && serde_json::from_slice::<Event>(line).is_ok()
    });
    whole && lines == chunk.events && lines > 0
}

/// FNV-1a: tells a record from what is none, quickly and in a few lines. Whether the text is whole its lines show.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

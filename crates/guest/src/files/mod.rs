//! What the host asks about files: which there are, what they hold, and what they shall hold.
//!
//! These run beside the user's runs, on the thread of their connection; comparing, which reads a lot that nobody waits
//! for byte by byte, at a low priority. Memory is bounded by the largest directory, or one piece of a file. They end
//! when the connection does, however it does, and leave nothing half done. Nothing is opened but directories and
//! regular files: opening a pipe would wait for its writer, and opening a device may do anything.

mod answer;
mod content;
mod digest;
mod gentle;
mod lean;
mod list;
mod problem;
mod remove;
mod stat;
mod transfer;
mod walk;
mod watch;

use std::sync::Arc;

use agent_proto::files::FileRequest;
use agent_proto::{DIGEST_PATHS_MAX, ENTRIES_BODY_MAX, Entry, FailureCode, Inventory, Reply};
use pod_types::ErrorChain;

use crate::connection::{Connection, ConnectionError, Stream};
use crate::services::failed;
pub(crate) use answer::answer;
use digest::digest;
use gentle::Gentle;
use walk::{Skip, Walk};

/// Most that an entry takes on the wire beside its path, in bytes: the lengths of its varints.
const ENTRY_BYTES: usize = 50;
/// Most that the number of entries takes, in bytes.
const COUNT_BYTES: usize = 3;
/// Entries between two looks at the connection.
const LOOK_EVERY: usize = 256;

/// Entries on their way, and what they take at most.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

/// Answers one file request without a machine around it, for tests of a host. False when the connection is over.
pub fn answer_file_request<S: Stream>(stream: S, request: FileRequest) -> bool {
    Connection::new(stream, Arc::default())
        .is_ok_and(|mut connection| answer(&mut connection, request).is_ok())
}

/// Sends all entries, then `Done`.
pub(crate) fn inventory<S: Stream>(
    connection: &mut Connection<S>,
    inventory: &Inventory,
) -> Result<(), ConnectionError> {
    if !inventory
        .roots
        .iter()
        .chain(&inventory.skip)
        .all(|path| path.starts_with('/'))
    {
        let message = "roots and skipped paths of an inventory are absolute".to_owned();
        return connection.reply(&failed(FailureCode::BadRequest, message));
    }
    let _gentle = Gentle::new();
    let skip = Skip::new(&inventory.skip);
    let mut batch = Batch::default();
    for root in &inventory.roots {
        for (number, entry) in Walk::new(root, &skip).enumerate() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let message = ErrorChain(&error).to_string();
                    return connection.reply(&failed(FailureCode::Internal, message));
                }
            };
            if number % LOOK_EVERY == 0 {
                connection.look()?;
            }
            if !batch.fits(&entry) {
                connection.reply(&batch.take())?;
            }
            batch.add(entry);
        }
    }
    if !batch.entries.is_empty() {
        connection.push(&batch.take())?;
    }
    connection.reply(&Reply::Done)
}

/// Sends the digests of all files.
pub(crate) fn digests<S: Stream>(
    connection: &mut Connection<S>,
    paths: &[Vec<u8>],
) -> Result<(), ConnectionError> {
    if paths.len() > DIGEST_PATHS_MAX || !paths.iter().all(|path| path.starts_with(b"/")) {
        let message = format!("digests are of at most {DIGEST_PATHS_MAX} files with absolute paths");
        return connection.reply(&failed(FailureCode::BadRequest, message));
    }
    let _gentle = Gentle::new();
    let mut digests = Vec::with_capacity(paths.len());
    for path in paths {
        digests.push(digest(path, || connection.look())?);
    }
    connection.reply(&Reply::Digests(digests))
}

impl Batch {
    fn fits(&self, entry: &Entry) -> bool {
        COUNT_BYTES + self.bytes + ENTRY_BYTES + entry.path.len() <= ENTRIES_BODY_MAX
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += ENTRY_BYTES + entry.path.len();
        self.entries.push(entry);
    }

    fn take(&mut self) -> Reply {
        self.bytes = 0;
        Reply::Entries(std::mem::take(&mut self.entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_proto::{EntryKind, HEADER_LEN};

    #[test]
    fn a_batch_of_the_costliest_entries_stays_within_its_bound() {
        for path_len in [0, 1, 100, 4096] {
            let entry = Entry {
                path: vec![255; path_len],
                kind: EntryKind::Other,
                mode: u32::MAX,
                size: u64::MAX,
                mtime_ns: i64::MIN,
                ctime_ns: i64::MIN,
                inode: u64::MAX,
            };
            let mut batch = Batch::default();
            while batch.fits(&entry) {
                batch.add(entry.clone());
            }
            let frame = batch.take().encode().unwrap();
            let body = frame.len() - HEADER_LEN;
            assert!(
                (ENTRIES_BODY_MAX / 2..=ENTRIES_BODY_MAX).contains(&body),
                "{body}"
            );
        }
    }
}

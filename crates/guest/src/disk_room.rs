//! Room on the disk that is kept out of use.
//!
//! The disk is as large as its file system says, and thin: the host finds room for a block when it is written. When the
//! host has none left, a write that the file system has long accepted fails, and with it, sooner or later, the file
//! system's journal. So the host says in time how much may still be written, and the rest is given to a file without a
//! name, whose blocks are set aside and never written: programs get `ENOSPC` where they can deal with it, and
//! nothing else happens. Root can undo this, and then hurts its own disk only.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use agent_proto::{FailureCode, Reply, Room};
use pod_types::ErrorChain;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, fallocate, fstatvfs, ftruncate, openat};

use crate::services::failed;

/// Set aside in steps: one step that does not fit changes nothing.
const STEP_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct DiskRoom(Mutex<Option<Held>>);

#[derive(Debug)]
struct Held {
    file: File,
    bytes: u64,
}

impl DiskRoom {
    /// Leaves so much free on the file system that `place` is on.
    pub(crate) fn leave(&self, place: &Path, leave_bytes: u64) -> Reply {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match adjust(&mut held, place, leave_bytes) {
            Ok(room) => Reply::Room(room),
            Err(error) => failed(FailureCode::Internal, ErrorChain(&error).to_string()),
        }
    }
}

fn adjust(held: &mut Option<Held>, place: &Path, leave_bytes: u64) -> io::Result<Room> {
    let holds = held.as_ref().map_or(0, |held| held.bytes);
    let directory = openat(CWD, place, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let free = || -> io::Result<u64> {
        let stat = fstatvfs(&directory)?;
        // Root may use what is reserved for it, and everything here is root.
        Ok(stat.f_bfree.saturating_mul(stat.f_frsize))
    };
    let wanted = holds.saturating_add(free()?).saturating_sub(leave_bytes);
    if wanted == 0 {
        *held = None;
    } else if wanted > holds || held.is_some() {
        let held = match held {
            Some(held) => held,
            None => {
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                let file = openat(&directory, ".", flags, Mode::RUSR | Mode::WUSR)?;
                held.insert(Held {
                    file: file.into(),
                    bytes: 0,
                })
            }
        };
        held.become_as_large_as(wanted)?;
    }
    Ok(Room {
        free_bytes: free()?,
        held_bytes: held.as_ref().map_or(0, |held| held.bytes),
    })
}

impl Held {
    fn become_as_large_as(&mut self, wanted: u64) -> io::Result<()> {
        if wanted < self.bytes {
            ftruncate(&self.file, wanted)?;
            self.bytes = wanted;
        }
        while self.bytes < wanted {
            let step = (wanted - self.bytes).min(STEP_BYTES);
            match fallocate(&self.file, FallocateFlags::empty(), self.bytes, step) {
                Ok(()) => self.bytes += step,
                // Somebody else was faster: what was to be kept out of use is in use.
                Err(rustix::io::Errno::NOSPC) => {
                    ftruncate(&self.file, self.bytes)?;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(reply: Reply) -> Room {
        match reply {
            Reply::Room(room) => room,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn room_is_held_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let held = DiskRoom::default();
        let before = room(held.leave(dir.path(), u64::MAX));
        assert_eq!(before.held_bytes, 0);
        // A little of what is there, whatever else is going on on this machine.
        let some = 80 * 1024 * 1024;
        let during = room(held.leave(dir.path(), before.free_bytes - some));
        assert!(
            during.held_bytes > 0 && during.held_bytes < 100 * some,
            "{during:?}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let less = room(held.leave(dir.path(), before.free_bytes - some / 2));
        assert!(less.held_bytes < during.held_bytes + some, "{less:?}");
        assert_eq!(room(held.leave(dir.path(), u64::MAX)).held_bytes, 0);
    }

    #[test]
    fn a_place_that_is_not_there_is_an_error() {
        let reply = DiskRoom::default().leave(Path::new("/nowhere/at/all"), 1);
        assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    }
}

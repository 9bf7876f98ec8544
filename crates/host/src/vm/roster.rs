//! What belongs to this daemon right now: the processes and directories of VMs that somebody here answers for.
//!
//! Everything else under the data directory is an orphan, see [`crate::storage::Reaper`].

use std::collections::HashSet;
use std::ffi::OsString;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    pids: Arc<Members<u32>>,
    dirs: Arc<Members<OsString>>,
    left: Arc<AtomicBool>,
}

/// Being on the roster; ends when dropped.
#[derive(Debug)]
pub(crate) struct Ticket<T: Eq + Hash> {
    member: T,
    members: Arc<Members<T>>,
}

type Members<T> = Mutex<HashSet<T>>;

impl Roster {
    pub(crate) fn add_pid(&self, pid: u32) -> Ticket<u32> {
        Ticket::new(pid, &self.pids)
    }

    /// A directory, by its name among those of all VMs.
    pub(crate) fn add_dir(&self, name: OsString) -> Ticket<OsString> {
        Ticket::new(name, &self.dirs)
    }

    pub(crate) fn has_pid(&self, pid: u32) -> bool {
        lock(&self.pids).contains(&pid)
    }

    pub(crate) fn has_dir(&self, name: &OsString) -> bool {
        lock(&self.dirs).contains(name)
    }

    /// From now on VMs are left to themselves: what belongs to them stays when it is let go of here, for the next daemon.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// No VM has a process any more.
    pub(crate) fn has_no_pids(&self) -> bool {
        lock(&self.pids).is_empty()
    }

    pub(crate) fn has_no_dirs(&self) -> bool {
        lock(&self.dirs).is_empty()
    }
}

impl<T: Eq + Hash + Clone> Ticket<T> {
    fn new(member: T, members: &Arc<Members<T>>) -> Self {
        lock(members).insert(member.clone());
        Self {
            member,
            members: Arc::clone(members),
        }
    }
}

impl<T: Eq + Hash> Drop for Ticket<T> {
    fn drop(&mut self) {
        lock(&self.members).remove(&self.member);
    }
}

/// A set is whole between any two statements.
fn lock<T>(members: &Members<T>) -> std::sync::MutexGuard<'_, HashSet<T>> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

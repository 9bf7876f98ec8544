//! The processes the agent starts, and the reaping of all others.
//!
//! PID 1 inherits every orphan of the machine and has to reap it, but a service must not lose the exit status of its
//! own child to that. So under [`Reaping::Everything`] one thread alone waits for processes, and keeps the statuses
//! of those in the table. A child is entered while the table is locked, and reaped only while it is locked: it can
//! neither be missed nor be taken from under `std`, which waits for a child itself when its `exec` fails.
//!
//! A test process reaps only what it started here, because other code in it has children too.
//!
//! A pidfd tells in any `poll` that a child has ended, and signals sent through it never reach a stranger.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal,
    wait, waitid, waitpid,
};

/// Who reaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaping {
    /// This process is PID 1.
    Everything,
    /// Only children started through [`Children`].
    OwnOnly,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(i32),
    Killed(i32),
}

#[derive(Debug)]
pub(crate) struct Children {
    reaping: Reaping,
    table: Mutex<HashMap<Pid, Option<Ended>>>,
    changed: Condvar,
}

/// A process started here; forgotten, not killed, when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    children: Arc<Children>,
}

impl Children {
    pub(crate) fn new(reaping: Reaping) -> io::Result<Arc<Self>> {
        let children = Arc::new(Self {
            reaping,
            table: Mutex::new(HashMap::new()),
            changed: Condvar::new(),
        });
        if reaping == Reaping::Everything {
            let reaper = Arc::clone(&children);
            thread::Builder::new()
                .name("reaper".to_owned())
                .spawn(move || reaper.reap_for_ever())?;
        }
        Ok(children)
    }

    /// Starts a process.
    pub(crate) fn spawn(self: &Arc<Self>, command: &mut Command) -> io::Result<Child> {
        self.adopt(|| command.spawn().map(|spawned| Pid::from_child(&spawned)))
    }

    /// Takes care of a process that `start` starts.
    pub(crate) fn adopt(self: &Arc<Self>, start: impl FnOnce() -> io::Result<Pid>) -> io::Result<Child> {
        let mut table = self.lock();
        let pid = start()?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        table.insert(pid, None);
        self.changed.notify_all();
        Ok(Child {
            pid,
            pidfd,
            children: Arc::clone(self),
        })
    }

    fn reap_for_ever(&self) {
        loop {
            // Only looks, so that nothing is reaped without the lock.
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => self.reap_ended(),
                Err(Errno::CHILD) => {
                    let table = self.lock();
                    // Without children there are no descendants either, so the next one comes from `spawn`.
                    if table.values().all(Option::is_some) {
                        drop(self.changed.wait(table).unwrap_or_else(PoisonError::into_inner));
                    }
                }
                Err(_) => {}
            }
        }
    }

    fn reap_ended(&self) {
        let mut table = self.lock();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(entry) = table.get_mut(&pid) {
                *entry = Some(Ended::from(status));
            }
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, Option<Ended>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal; to nobody when the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for the end and tells how it was; may be asked again.
    pub(crate) fn wait(&self) -> Ended {
        let mut table = self.children.lock();
        loop {
            if let Some(Some(ended)) = table.get(&self.pid) {
                return *ended;
            }
            if self.children.reaping == Reaping::OwnOnly {
                drop(table);
                let mut fds = [rustix::event::PollFd::new(
                    &self.pidfd,
                    rustix::event::PollFlags::IN,
                )];
                let _ = crate::poll::wait(&mut fds, None);
                table = self.children.lock();
                if let Some(entry @ None) = table.get_mut(&self.pid)
                    && let Ok(Some((_, status))) = waitpid(Some(self.pid), WaitOptions::NOHANG)
                {
                    *entry = Some(Ended::from(status));
                }
            } else {
                table = self
                    .children
                    .changed
                    .wait(table)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl AsFd for Child {
    /// Readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.children.lock().remove(&self.pid);
    }
}

impl From<WaitStatus> for Ended {
    fn from(status: WaitStatus) -> Self {
        status
            .terminating_signal()
            .map_or_else(|| Self::Exited(status.exit_status().unwrap_or(0)), Self::Killed)
    }
}

impl Ended {
    /// The exit code a shell would show.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(number) => match Signal::from_named_raw(*number) {
                Some(signal) => {
                    // rustix prints `"Signal::SEGV"`, with the quotes.
                    let name = format!("{signal:?}");
                    let name = name.trim_matches('"').trim_start_matches("Signal::");
                    write!(f, "signal {number}, SIG{name}")
                }
                None => write!(f, "signal {number}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_child_keeps_its_own_status() {
        let children = Children::new(Reaping::OwnOnly).unwrap();
        let spawn = |script: &str| children.spawn(Command::new("sh").args(["-c", script])).unwrap();
        let (seven, killed) = (spawn("exit 7"), spawn("kill -9 $$"));
        assert_eq!(killed.wait(), Ended::Killed(9));
        assert_eq!(seven.wait(), Ended::Exited(7));
        assert_eq!(seven.wait(), Ended::Exited(7));
        assert_eq!(Ended::Killed(11).to_string(), "signal 11, SIGSEGV");
    }

    #[test]
    fn a_command_that_does_not_exist_is_an_error() {
        let children = Children::new(Reaping::OwnOnly).unwrap();
        assert!(children.spawn(&mut Command::new("/no/such/command")).is_err());
        assert!(children.lock().is_empty());
    }
}

//! A VM process that is not our child: a clone is its parent's child, and the kernel takes it back by itself.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use futures_util::FutureExt as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::kernel::{self, Facts};
use super::process::{ProcessName, VmmProcess};

/// Watched and killed through a descriptor, which stays with this process whatever becomes of its number.
pub(super) struct Watched {
    name: ProcessName,
    /// Readable once the process has ended.
    descriptor: AsyncFd<OwnedFd>,
}

impl Watched {
    /// Opens a process that is a child of `parent`, and refuses any other.
    pub(super) fn child_of(parent: u32, pid: u32) -> io::Result<Self> {
        let watched = Self::open(pid)?;
        if watched.1.parent == parent {
            Ok(watched.0)
        } else {
            let text = format!("process {pid} is not a child of {parent}");
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
    }

    /// Opens the process that was started then, and refuses any other that has its number.
    pub(super) fn named(name: ProcessName) -> io::Result<Self> {
        let (watched, _) = Self::open(name.pid)?;
        if watched.name == name {
            Ok(watched)
        } else {
            let text = format!("process {} is another one by now", name.pid);
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
    }

    fn open(pid: u32) -> io::Result<(Self, Facts)> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let descriptor = pidfd_open(number, PidfdFlags::NONBLOCK)?;
        // Looked at after it was opened: the number cannot have changed hands in between unnoticed, since numbers are
        // handed out in turn.
        let facts = Facts::of(pid)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, because the descriptor of an arbitrary type may change; an OwnedFd's does not"
        )]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        let name = ProcessName {
            pid,
            started: facts.started,
        };
        Ok((Self { name, descriptor }, facts))
    }
}

impl VmmProcess for Watched {
    fn name(&self) -> ProcessName {
        self.name
    }

    fn exited(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async {
            match self.descriptor.readable().await {
                // How it ended is told to its parent alone.
                Ok(_) => "ended".to_owned(),
                Err(error) => format!("cannot be waited for: {error}"),
            }
        })
    }

    fn kill(&mut self) {
        match pidfd_send_signal(self.descriptor.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.name.pid, %error, "cannot kill a VM process"),
        }
    }

    fn give_way(&mut self, gives: bool) {
        if self.exited().now_or_never().is_none() {
            kernel::give_way(self.name.pid, gives);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use rustix::process::getpriority_process;

    #[tokio::test]
    async fn a_process_that_is_not_awaited_as_a_child_is_seen_to_end_and_can_be_killed() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut watched = Watched::child_of(std::process::id(), child.id()).unwrap();
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), watched.exited()).await;
        early.unwrap_err();
        watched.kill();
        assert_eq!(watched.exited().await, "ended");
        // Still there as a zombie, and after that not: both are fine.
        watched.kill();
        child.wait().unwrap();
        watched.kill();
        assert_eq!(watched.exited().await, "ended");
    }

    #[tokio::test]
    async fn a_process_gives_way_with_all_its_group_and_takes_its_turn_again() {
        let mut command = Command::new("sleep");
        let mut child = command.arg("60").process_group(0).spawn().unwrap();
        let mut watched = Watched::child_of(std::process::id(), child.id()).unwrap();
        let nice = || getpriority_process(Pid::from_raw(child.id().try_into().unwrap())).unwrap();
        watched.give_way(true);
        let given = nice();
        watched.give_way(false);
        let taken = nice();
        watched.kill();
        child.wait().unwrap();
        watched.give_way(true);
        assert_eq!(given, 19);
        // Only who is privileged may take it back.
        let privileged = rustix::process::geteuid().is_root();
        assert_eq!(taken, if privileged { 0 } else { 19 });
    }

    #[tokio::test]
    async fn a_process_is_known_by_its_number_and_its_start() {
        let name = Watched::open(std::process::id()).unwrap().0.name;
        assert_eq!(Watched::named(name).unwrap().name, name);
        let later = ProcessName {
            started: name.started + 1,
            ..name
        };
        let refused = Watched::named(later).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_process_that_is_somebody_elses_child_is_refused() {
        let refused = Watched::child_of(std::process::id(), std::process::id())
            .map(drop)
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}

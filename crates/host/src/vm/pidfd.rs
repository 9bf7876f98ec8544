//! A VM process that is not our child: a clone is its parent's child, and the kernel takes it back by itself.

use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::process::VmmProcess;

/// Watched and killed through a descriptor, which stays with this process whatever becomes of its number.
pub(super) struct Watched {
    pid: u32,
    /// Readable once the process has ended.
    descriptor: AsyncFd<OwnedFd>,
}

impl Watched {
    /// Opens a process that is a child of `parent`, and refuses any other.
    pub(super) fn child_of(parent: u32, pid: u32) -> io::Result<Self> {
        let watched = Self::open(pid)?;
        // Looked at after it was opened: the number cannot have changed hands in between unnoticed, since numbers are
        // handed out in turn.
        let status = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        if parent_in(&status) == Some(parent) {
            Ok(watched)
        } else {
            let text = format!("process {pid} is not a child of {parent}");
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
    }

    fn open(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let descriptor = pidfd_open(number, PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, because the descriptor of an arbitrary type may change; an OwnedFd's does not"
        )]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        Ok(Self { pid, descriptor })
    }
}

/// The parent in a line of `/proc/<pid>/stat`. The name before it is in parentheses and may hold anything.
fn parent_in(status: &str) -> Option<u32> {
    let (_, rest) = status.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

impl VmmProcess for Watched {
    fn pid(&self) -> u32 {
        self.pid
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
            Err(error) => tracing::warn!(pid = self.pid, %error, "cannot kill a VM process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

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
    async fn a_process_that_is_somebody_elses_child_is_refused() {
        let refused = Watched::child_of(std::process::id(), std::process::id())
            .map(drop)
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(parent_in("7 (a) b) S 42 7 7 0"), Some(42));
        assert_eq!(parent_in(""), None);
    }
}

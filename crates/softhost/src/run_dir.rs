//! The directory of one running host: its lock, status, console and sockets.
//!
//! Whoever holds the lock is the supervisor. The lock is one of the open file description (`F_OFD_SETLK`), so the
//! kernel drops it when the supervisor dies in whatever way, and children never inherit it, as the file is closed
//! on exec. Files alone therefore prove nothing: without the lock held they are leftovers.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use thiserror::Error;

/// How often a lock is tried that another holds.
const POLL: Duration = Duration::from_millis(20);

/// Names of the files in a run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    root: PathBuf,
}

/// Exclusive use of a run directory; ends when dropped, or when the process dies.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Why a run directory cannot be used.
#[derive(Debug, Error)]
pub enum RunDirError {
    #[error("cannot make the run directory {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot open the lock {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot use the lock {}", path.display())]
    Lock { path: PathBuf, source: Errno },
    #[error("a host is running in {} already; stop it with: podflare down", path.display())]
    Busy { path: PathBuf },
}

impl RunDir {
    /// Makes the directory if need be, for its owner only.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let make = |source| RunDirError::Make {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(make)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(make)?;
        // Processes are recognised by the paths they were given, so there must be one spelling.
        Ok(Self {
            root: fs::canonicalize(path).map_err(make)?,
        })
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The status as the supervisor publishes it.
    #[must_use]
    pub fn status(&self) -> PathBuf {
        self.root.join("status.json")
    }

    /// What the machine, or the host daemon on hardware, says.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.root.join("console.log")
    }

    /// The console of the start before, and what was cut off a long one.
    #[must_use]
    pub fn console_before(&self) -> PathBuf {
        self.root.join("console.log.1")
    }

    /// What QEMU itself says.
    #[must_use]
    pub fn qemu_log(&self) -> PathBuf {
        self.root.join("qemu.log")
    }

    /// What a detached supervisor says; the program that detaches it opens it.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.root.join("supervisor.log")
    }

    pub(crate) fn machine_pid(&self) -> PathBuf {
        self.root.join("machine.pid")
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.root.join("initrd.cpio")
    }

    /// Data of a host daemon that runs on hardware; the software host has a disk instead.
    pub(crate) fn hostd_data(&self) -> PathBuf {
        self.root.join("hostd")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    pub(crate) fn monitor_socket(&self) -> PathBuf {
        self.root.join("monitor.sock")
    }

    /// Connects to a socket in this directory. The address of a Unix socket is short and the path of a run directory may
    /// not be; through the directory's descriptor every path is short.
    pub(crate) fn connect(&self, socket: &Path) -> io::Result<UnixStream> {
        let name = socket.file_name().unwrap_or_default();
        let directory = File::open(&self.root)?;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        UnixStream::connect(Path::new(&path).join(name))
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Takes the lock; waits a moment, since the one before may be just about to end.
    ///
    /// # Errors
    /// When another supervisor holds it.
    pub fn lock(&self, patience: Duration) -> Result<RunLock, RunDirError> {
        let file = self.open_lock()?;
        let deadline = Instant::now() + patience;
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Ok(_) => return Ok(RunLock { _file: file }),
                Err(Errno::EAGAIN | Errno::EACCES) if Instant::now() < deadline => thread::sleep(POLL),
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    return Err(RunDirError::Busy {
                        path: self.root.clone(),
                    });
                }
                Err(source) => {
                    return Err(RunDirError::Lock {
                        path: self.lock_path(),
                        source,
                    });
                }
            }
        }
    }

    /// Whether a supervisor is alive here. Only looks, so it never gets in the way of one that starts.
    ///
    /// # Errors
    /// When the lock cannot be looked at.
    pub fn is_locked(&self) -> Result<bool, RunDirError> {
        let file = self.open_lock()?;
        let mut answer = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut answer)).map_err(|source| RunDirError::Lock {
            path: self.lock_path(),
            source,
        })?;
        Ok(i32::from(answer.l_type) != libc::F_UNLCK)
    }

    fn open_lock(&self) -> Result<File, RunDirError> {
        let path = self.lock_path();
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| RunDirError::Open { path, source })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the constants are 0 to 2")]
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_supervisor_at_a_time_and_looking_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(&directory.path().join("a/b")).unwrap();
        assert!(!run_dir.is_locked().unwrap());
        let lock = run_dir.lock(Duration::ZERO).unwrap();
        assert!(run_dir.is_locked().unwrap());
        let error = run_dir.lock(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, RunDirError::Busy { .. }), "{error:?}");
        drop(lock);
        assert!(!run_dir.is_locked().unwrap());
        run_dir.lock(Duration::ZERO).unwrap();
    }

    #[test]
    fn only_the_owner_may_look_inside() {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(&directory.path().join("run")).unwrap();
        assert_eq!(
            fs::metadata(run_dir.root()).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}

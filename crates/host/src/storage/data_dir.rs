//! The daemon's data directory: one daemon at a time, one subdirectory per VM, one per template's snapshot.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use thiserror::Error;

use crate::vm::{NAME_BYTES_MAX, SOCKET_PATH_MAX, VmFiles};

/// Holds the lock for as long as it lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    vms: PathBuf,
    snapshots: PathBuf,
    spaces: PathBuf,
    database: PathBuf,
    share_key: PathBuf,
    _lock: File,
}

#[derive(Debug, Error)]
pub enum DataDirError {
    #[error("cannot use {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} belongs to another daemon that runs as process {pid}; stop it, or choose another data directory", path.display())]
    Held { path: PathBuf, pid: String },
    #[error("{} is too long: the sockets under it would need {needed} bytes, and a socket's path has {SOCKET_PATH_MAX}", path.display())]
    TooLong { path: PathBuf, needed: usize },
    #[error("processes of a daemon that died cannot be ended: {pids:?}")]
    Undead { pids: Vec<u32> },
}

impl DataDir {
    /// Makes the directory and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { path, source }
        };
        make_private(path).map_err(at(path))?;
        // The real path is what the command lines of VM processes will carry.
        let path = path.canonicalize().map_err(at(path))?;
        let lock = lock(&path)?;
        let vms = path.join("vms");
        make_private(&vms).map_err(at(&vms))?;
        let longest = VmFiles {
            dir: vms.join("9".repeat(NAME_BYTES_MAX)),
        };
        let needed = longest.control_socket().as_os_str().len();
        if needed > SOCKET_PATH_MAX {
            return Err(DataDirError::TooLong { path, needed });
        }
        let snapshots = path.join("snapshots");
        make_private(&snapshots).map_err(at(&snapshots))?;
        Ok(Self {
            vms,
            snapshots,
            spaces: path.join("spaces"),
            database: path.join("podflare.db"),
            share_key: path.join("ports.key"),
            path,
            _lock: lock,
        })
    }

    /// The key that secrets are sealed with.
    pub(crate) fn secrets_key(&self) -> PathBuf {
        self.path.join("secrets.key")
    }

    /// Its real path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the directories of VMs are.
    pub(crate) fn vms(&self) -> &Path {
        &self.vms
    }

    /// Tenants, keys, usage and the audit log.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// What URLs for ports are signed with.
    pub(crate) fn share_key(&self) -> &Path {
        &self.share_key
    }

    /// Where frozen sandboxes are; they outlive the daemon, and everything else.
    pub(crate) fn spaces(&self) -> &Path {
        &self.spaces
    }

    /// Where snapshots of templates are kept; they outlive the daemon.
    pub(crate) fn snapshots(&self) -> &Path {
        &self.snapshots
    }
}

/// A directory only its owner can enter; it may exist already.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("hostd.lock");
    let failed = |source| DataDirError::Io {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            let path = dir.to_owned();
            let pid = pid.trim().to_owned();
            return Err(DataDirError::Held { path, pid });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// A process that was just killed may still be about to make a file in its directory.
const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(50);

/// Removes a VM's directory with all in it; one that is gone already is fine.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    for _ in 1..REMOVE_TRIES {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => sleep(REMOVE_PAUSE),
            other => return other,
        }
    }
    fs::remove_dir_all(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_second_daemon_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let mode = first.vms().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let refusal = DataDir::open(dir.path()).unwrap_err();
        let DataDirError::Held { pid, .. } = &refusal else {
            panic!("held, not {refusal}");
        };
        assert_eq!(*pid, std::process::id().to_string());
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_too_deep_for_sockets_is_refused_before_any_vm_starts() {
        let dir = tempfile::tempdir().unwrap();
        let fits = dir.path().join("a".repeat(78 - dir.path().as_os_str().len()));
        DataDir::open(&fits).unwrap();
        let deep = dir.path().join("a".repeat(79));
        let refusal = DataDir::open(&deep).unwrap_err();
        assert!(matches!(refusal, DataDirError::TooLong { .. }), "{refusal}");
    }
}

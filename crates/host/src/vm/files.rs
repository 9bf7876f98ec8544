//! The names of one VM's files.

use std::path::PathBuf;

/// Longest path of a Unix socket in bytes, without its terminating zero: `sun_path` of `unix(7)`.
pub(crate) const SOCKET_PATH_MAX: usize = 107;

/// Bound of a guest's console log, in bytes.
pub(crate) const CONSOLE_BYTES_MAX: u64 = 1024 * 1024;

/// The files of one VM, all in its own directory.
#[derive(Clone, Debug)]
pub(crate) struct VmFiles {
    pub(crate) dir: PathBuf,
}

impl VmFiles {
    /// The longest of the paths of sockets. `podflare-vmm run` gives it this name itself.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    pub(crate) fn vsock_socket(&self) -> PathBuf {
        self.dir.join("vsock")
    }

    /// Where the agent's own connection arrives.
    pub(crate) fn ready_socket(&self) -> PathBuf {
        self.dir.join(format!("vsock_{}", agent_proto::READY_PORT))
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    pub(crate) fn disk_layer(&self) -> PathBuf {
        self.dir.join("disk.layer")
    }

    /// What a daemon after this one needs to know; see [`crate::records`].
    pub(crate) fn record(&self) -> PathBuf {
        self.dir.join("record")
    }

    /// The same of a VM that keeps a checkpoint.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// What the runs of a checkpoint's sandbox had said by then.
    pub(crate) fn past(&self) -> PathBuf {
        self.dir.join("past")
    }

    /// What its runs have said; see [`crate::replay`].
    pub(crate) fn replay(&self) -> PathBuf {
        self.dir.join("replay")
    }

    pub(crate) fn stderr(&self) -> PathBuf {
        self.dir.join("vmm.stderr")
    }
}

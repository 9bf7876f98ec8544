//! One VM as the host sees it: a process, its control socket, and how it came up or why it ended.

mod boot;
mod control;
mod death;
mod process;

pub use process::{VmmProcess, VmmProgram, VmmSpawner};

pub(crate) use boot::{BootError, bring_up};
pub(crate) use control::Control;
pub(crate) use death::{console_tail, describe, stderr_tail};

use std::path::{Path, PathBuf};

/// Longest path of a Unix socket in bytes, without its terminating zero: `sun_path` of `unix(7)`.
pub(crate) const SOCKET_PATH_MAX: usize = 107;

/// The files of one VM, all in its own directory.
#[derive(Clone, Debug)]
pub(crate) struct VmFiles {
    pub(crate) dir: PathBuf,
}

impl VmFiles {
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    pub(crate) fn vsock_socket(&self) -> PathBuf {
        self.dir.join("vsock.sock")
    }

    /// Where the agent's own connection arrives.
    pub(crate) fn ready_socket(&self) -> PathBuf {
        self.dir.join(format!("vsock.sock_{}", agent_proto::READY_PORT))
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    pub(crate) fn disk_layer(&self) -> PathBuf {
        self.dir.join("disk.layer")
    }

    pub(crate) fn stderr(dir: &Path) -> PathBuf {
        dir.join("vmm.stderr")
    }
}

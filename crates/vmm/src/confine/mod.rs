//! Confinement: what is left of a VM process's rights once it has opened its files.
//!
//! A guest that breaks out of its VM lands in this process. From then on it finds: no file but those already open, no
//! network, no other process it may look into, no right of a privileged user, and a short list of system calls. All
//! of this is inherited through `fork(2)`, so a clone is confined as its parent is and pays nothing for it.
//!
//! ```text
//!   files open → namespaces → empty root → user without rights → system calls of the main thread
//!                                                                └─ vCPU threads: a shorter list each
//! ```
//!
//! There is no PID namespace: the first clone would be its init, and its death the death of all others. Instead no
//! system call that takes the number of another process is allowed, and the one signal that can be sent is the one
//! every VM process ignores.

mod root;
mod system_calls;
mod user;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use system_calls::{FilterError, Thread};
pub use user::UserId;

/// What could not be taken away. The process must not run a guest then.
#[derive(Debug, Error)]
pub enum ConfineError {
    #[error("cannot get namespaces of its own (a user other than root needs unprivileged user namespaces)")]
    Namespaces(#[source] io::Error),
    #[error("cannot map its user into the user namespace")]
    UserMap(#[source] io::Error),
    #[error("cannot make {what} its root")]
    Root {
        what: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot give up its rights: {what}")]
    Rights {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot restrict its system calls")]
    Filter(#[source] FilterError),
}

/// How far this process is confined.
#[derive(Clone, Debug, Default)]
pub enum Confinement {
    /// Not at all: whoever runs it trusts the guest.
    #[default]
    Off,
    /// As soon as its files are open.
    Wanted { dir: PathBuf, user: UserId },
    /// It is.
    On,
}

impl Confinement {
    /// Everything the process needs is open; its guest has not run.
    pub(crate) fn enter(&mut self) -> Result<(), ConfineError> {
        if let Self::Wanted { dir, user } = self {
            enter(dir, *user)?;
            *self = Self::On;
        }
        Ok(())
    }

    /// For a thread that has just begun.
    pub(crate) fn restrict(&self, thread: Thread) -> Result<(), ConfineError> {
        match self {
            Self::On => restrict(thread),
            Self::Off | Self::Wanted { .. } => Ok(()),
        }
    }
}

/// Confines this process, for good. To be called by its only thread.
///
/// `dir` becomes the root directory, the VM's own: all it holds are sockets and logs of this VM. When the process is
/// root's it goes on as `user`, to whom the directory is given; otherwise it keeps its user, who has no rights over
/// other users.
///
/// # Errors
/// The kernel refused a step; what was done before it stays done.
pub fn enter(dir: &Path, user: UserId) -> Result<(), ConfineError> {
    let privileged = rustix::process::geteuid().is_root();
    if privileged {
        user.own(dir).map_err(|source| ConfineError::Root {
            what: dir.to_owned(),
            source,
        })?;
        root::unshare(root::NAMESPACES).map_err(ConfineError::Namespaces)?;
    } else {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        root::unshare(root::NAMESPACES | libc::CLONE_NEWUSER).map_err(ConfineError::Namespaces)?;
        user::map_self(uid.as_raw(), gid.as_raw()).map_err(ConfineError::UserMap)?;
    }
    root::change(dir).map_err(|source| ConfineError::Root {
        what: dir.to_owned(),
        source,
    })?;
    user::give_up_rights(privileged.then_some(user))?;
    restrict(Thread::Main)
}

/// Restricts the calling thread to the system calls its kind needs, and all threads it starts.
///
/// # Errors
/// The kernel refused the filter.
pub fn restrict(thread: Thread) -> Result<(), ConfineError> {
    system_calls::restrict(thread).map_err(ConfineError::Filter)
}

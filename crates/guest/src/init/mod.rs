//! PID 1: from the kernel's hand-over to a machine in which the services can run, and to its end.
//!
//! ```text
//! initrd: /proc /sys /dev ─► modules ─► wait for /dev/vda ─► mount it ─► empty the initrd, move into it
//! root:   /dev/pts /dev/shm /run cgroup2 ─► limits ─► network ─► certificates ─► (services) ─► grow the file system
//! ```
//!
//! PID 1 is safe from what root in the guest does: the kernel delivers it no signal that it does not handle, and
//! neither kills nor considers it when memory runs out, so it needs no `oom_score_adj`, which its children would
//! inherit. Its descriptors are all close-on-exec.

mod certificates;
mod console;
mod modules;
mod mounts;
mod netlink;
mod network;
mod power;
mod root;

use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::system::sethostname;
use thiserror::Error;

pub use certificates::environment;
pub use console::say;
pub use power::{power_off, stop_everything};
pub use root::grow_root;

/// The machine's name until the host says another.
const FIRST_HOSTNAME: &str = "podflare";
/// Open files: soft limit as programs expect it, hard limit as the kernel allows it (`fs.nr_open`).
const OPEN_FILES: Rlimit = Rlimit {
    current: Some(65_536),
    maximum: Some(1_048_576),
};

/// Which step of booting failed.
#[derive(Debug, Error)]
pub enum BootError {
    #[error("cannot mount {target}")]
    Mount { target: &'static str, source: io::Error },
    #[error("cannot read the list of modules {path}")]
    ModuleList { path: &'static str, source: io::Error },
    #[error("cannot load the module {name}")]
    Module { name: String, source: io::Error },
    #[error("the root disk {device} has not appeared within {seconds} s")]
    NoDisk { device: &'static str, seconds: u64 },
    #[error("cannot enter the root file system")]
    SwitchRoot(#[source] io::Error),
    #[error("cannot raise the limit of open files")]
    Limits(#[source] io::Error),
    #[error("cannot set the first host name")]
    Hostname(#[source] io::Error),
    #[error("cannot bring the loopback interface up")]
    Loopback(#[source] io::Error),
    #[error("cannot set up the network interface")]
    Network(#[source] io::Error),
    #[error("cannot name the resolver")]
    Resolver(#[source] io::Error),
    #[error("cannot trust the host's certification authority")]
    Authority(#[source] io::Error),
}

/// Makes the machine ready for the services.
///
/// # Errors
/// The step that failed; the machine is of no use then.
pub fn boot() -> Result<(), BootError> {
    mounts::early()?;
    modules::load_listed()?;
    // The initrd goes when the root file system comes.
    let authority = certificates::brought().map_err(BootError::Authority)?;
    root::enter()?;
    mounts::late()?;
    sethostname(FIRST_HOSTNAME.as_bytes()).map_err(|error| BootError::Hostname(error.into()))?;
    setrlimit(Resource::Nofile, OPEN_FILES).map_err(|error| BootError::Limits(error.into()))?;
    network::loopback().map_err(BootError::Loopback)?;
    network::up().map_err(BootError::Network)?;
    network::resolver().map_err(BootError::Resolver)?;
    authority.map_or(Ok(()), |pem| {
        certificates::install(Path::new("/"), &pem).map_err(BootError::Authority)
    })
}

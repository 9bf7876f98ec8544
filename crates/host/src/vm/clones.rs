//! Clones of a VM that exists.
//!
//! Their homes are made first, so that the parent gets open files and needs no path; see
//! [`vmm_proto::CloneConfig`] for their order.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;
use vmm_proto::{CLONES_MAX, CloneConfig, DESCRIPTORS_PER_CLONE};

use super::control::{Control, ControlError};
use super::homes::{Furnished, Home, Homes};
use super::process::{Process, VmmSpawner};
use super::{CONSOLE_BYTES_MAX, Vm};
use crate::network::WireLink;

/// How long a VM may take to make its clones. 32 took well below a second in emulation.
const CLONE_BOUND: Duration = Duration::from_secs(10);

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// 1 to [`CLONES_MAX`].
    pub(crate) count: u8,
    /// Whether they run as soon as they are built.
    pub(crate) run: bool,
}

/// What the network is to make of clones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach<'a> {
    /// They belong to nobody yet, and reach nothing.
    Nothing,
    /// They reach what the VM with this wire does, whose guest theirs take themselves for.
    Of(&'a WireLink),
    /// They never run.
    Unneeded,
}

/// Clones of one VM, all made at once. Nobody has spoken to them yet.
pub(crate) struct Brood {
    pub(crate) vms: Vec<Vm>,
    /// How long their parent stood still, in microseconds.
    pub(crate) paused_us: u64,
}

#[derive(Debug, Error)]
pub(crate) enum CloneError {
    #[error("cannot make directories for the clones")]
    Home(#[source] io::Error),
    #[error("the VM made no clones")]
    Parent(#[source] ControlError),
    #[error("the VM made {made} of {wanted} clones: {why}")]
    Fewer { made: usize, wanted: u8, why: String },
    #[error("a clone was gone as soon as it was made")]
    Watch(#[source] io::Error),
    #[error("a clone cannot be reached")]
    Reach(#[source] ControlError),
}

impl CloneError {
    /// The VM that was to be cloned is of no use any more, as far as this tells.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self, Self::Parent(error) if !matches!(error, ControlError::Refused(_)))
    }
}

/// Has the VM at the other end of `control`, process `parent`, make clones of itself. All or none.
pub(crate) async fn clone_vm(
    control: &mut Control,
    parent: u32,
    (order, reach): (Order, Reach<'_>),
    homes: &Arc<Homes>,
    spawner: &dyn VmmSpawner,
) -> Result<Brood, CloneError> {
    let wanted = order.count.clamp(1, CLONES_MAX);
    let furnished = homes.furnished(wanted.into()).await;
    let (layer, furnished) = furnished.map_err(CloneError::Home)?;
    let config = CloneConfig {
        count: wanted,
        run: order.run,
        console_log_bytes_max: CONSOLE_BYTES_MAX,
    };
    let report = {
        let mut descriptors = vec![layer.as_fd()];
        descriptors.extend(furnished.iter().flat_map(descriptors_of));
        let asked = timeout(CLONE_BOUND, control.clone_vm(config, &descriptors)).await;
        asked.unwrap_or(Err(ControlError::Silent(CLONE_BOUND)))
    };
    let report = report.map_err(CloneError::Parent)?;
    // Our copies of the sockets are closed, so that connecting to a clone that is gone is refused.
    let homes_left: Vec<Home> = furnished.into_iter().map(|furnished| furnished.home).collect();
    let mut vms = Vec::with_capacity(homes_left.len());
    for (&pid, home) in report.pids.iter().zip(homes_left) {
        if homes.roster().has_pid(pid) {
            let error = io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("process {pid} is another VM"),
            );
            return Err(CloneError::Watch(error));
        }
        let process = spawner.watch(pid, parent).map_err(CloneError::Watch)?;
        let process = Process::new(process, homes.roster());
        // It is its parent's child, and the kernel has said so.
        home.admit(pid);
        match (home.wire(), reach) {
            (Some(wire), Reach::Nothing) => wire.begin(None),
            (Some(wire), Reach::Of(parent)) => wire.begin(Some(parent)),
            (_, Reach::Unneeded) | (None, _) => {}
        }
        let control = Control::connect_now(&home.files.control_socket())
            .await
            .map_err(CloneError::Reach)?;
        vms.push(Vm {
            process,
            control,
            home,
        });
    }
    if vms.len() == usize::from(wanted) {
        return Ok(Brood {
            vms,
            paused_us: report.paused_us,
        });
    }
    Err(CloneError::Fewer {
        made: vms.len(),
        wanted,
        why: report.error.unwrap_or_else(|| "it did not say why".to_owned()),
    })
}

fn descriptors_of(furnished: &Furnished) -> [BorrowedFd<'_>; DESCRIPTORS_PER_CLONE] {
    [
        furnished.control.as_fd(),
        furnished.vsock.as_fd(),
        furnished.layer.as_fd(),
        furnished.console.as_fd(),
        furnished.wire.as_fd(),
    ]
}

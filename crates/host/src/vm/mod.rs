//! One VM as the host sees it: a process, its control socket, its directory, and how it came up or why it ended.
//!
//! A VM comes to be in one of three ways: a process is started and [boots](boot) it, a process is started and
//! restores it from a snapshot, or a VM that exists makes a [clone](clones) of itself. From then on they are the same.

mod boot;
mod cgroups;
mod clones;
mod control;
mod death;
mod descriptors;
mod files;
mod frozen;
mod homes;
mod kernel;
mod pidfd;
mod process;
mod roster;
mod standby;
mod wires;

pub use process::{Code, NETWORK_USER, ProcessName, VmmProcess, VmmProgram, VmmSpawner};

pub(crate) use boot::{BootError, bring_up, introduce, reach};
pub(crate) use cgroups::Cgroups;
pub(crate) use clones::{Brood, CloneError, Order, Reach, clone_vm};
pub(crate) use control::{Control, ControlError};
pub(crate) use death::{console_tail, describe, stderr_tail};
pub(crate) use descriptors::send as send_descriptors;
pub(crate) use files::{CONSOLE_BYTES_MAX, SOCKET_PATH_MAX, VmFiles};
pub(crate) use frozen::{FreezeFiles, FreezeVmError, ThawVmError, build_vm, freeze_vm, go_on, thaw_vm};
pub(crate) use homes::{Home, Homes, NAME_BYTES_MAX};
pub(crate) use kernel::{boot_id, vm_processes};
pub(crate) use process::{Process, adopt_program, spawned};
pub(crate) use roster::{Roster, Ticket};
pub(crate) use standby::Standby;
pub(crate) use wires::connect;

/// A VM that runs or is paused. Dropping it ends it: the process is killed, and the directory removed soon after.
pub(crate) struct Vm {
    pub(crate) process: Process,
    pub(crate) control: Control,
    pub(crate) home: Home,
}

impl Vm {
    /// Ends it and waits until the kernel has taken its process back.
    pub(crate) async fn end(self) {
        self.process.end().await;
    }
}

//! Cloning a VM: this process forks, and each child builds a KVM VM of its own over the memory it shares with its
//! parent, copy-on-write.
//!
//! ```text
//!   parent   request ─ park ─ capture ─ share disk ─ fork ─ fork ─ run on, reply
//!                                                     │      └────────────── …
//!   child                                             └─ close what is the parent's ─ new VM ─ state ─ devices ─ run
//! ```
//!
//! What goes where:
//! * Memory, device state and the disk's index are memory of this process: the fork takes them along. All device work
//!   is done by the main loop, which is what forks, so between two of its turns no request is half done; what has been
//!   announced but not begun is announced again in the clone.
//! * What KVM holds is captured ([`crate::state`]): KVM ties a VM to the process that made it.
//! * The disk layer that was written to is sealed, if it holds anything; parent and clones each write to a new one.
//! * Connections (control, vsock, the network's wire) stay with the parent. The guest is told that its sockets are
//!   reset; what is at the other end of a clone's own wire does that for its network.
//!
//! Parent and clone share no descriptor afterwards but the read-only files of the disk, and neither waits for the
//! other.

mod fork;
mod gate;
mod sweep;

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use pod_types::ErrorChain;
use vmm_proto::{CLONES_MAX, CloneConfig, DESCRIPTORS_PER_CLONE};

pub(crate) use fork::{keep_from_children, keep_signal_stack_from_children, leave_process_group, prepare};
pub(crate) use sweep::close_all_but;

use crate::session::Session;
use crate::virtio::{OwnFiles, net};
use fork::Forked;
use gate::Gate;

/// Clones that were asked for, with everything they need.
#[derive(Debug)]
pub(crate) struct Order {
    config: CloneConfig,
    /// The parent's next disk layer.
    layer: File,
    clones: Vec<CloneFiles>,
}

/// What one clone gets.
#[derive(Debug)]
pub(crate) struct CloneFiles {
    control: UnixListener,
    vm: VmFiles,
}

/// The part of it that is the VM's.
#[derive(Debug)]
pub(crate) struct VmFiles {
    pub(crate) vsock: UnixListener,
    pub(crate) layer: File,
    pub(crate) console: File,
    pub(crate) wire: OwnedFd,
}

/// In the child: how it is to begin.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) files: CloneFiles,
    pub(crate) config: CloneConfig,
}

/// What came of an order.
#[derive(Debug)]
pub(crate) enum Delivered {
    /// In the parent: the processes made, and why there are not more.
    Parent { pids: Vec<u32>, error: Option<String> },
    /// In a child.
    Child(Box<Birth>),
}

impl Order {
    /// Puts the descriptors that came with a request into their places.
    pub(crate) fn new(config: CloneConfig, files: Vec<OwnedFd>) -> Result<Self, String> {
        if !(1..=CLONES_MAX).contains(&config.count) {
            let count = config.count;
            return Err(format!("{count} clones are not between 1 and {CLONES_MAX}"));
        }
        let (came, needed) = (files.len(), config.descriptors());
        if came != needed {
            return Err(format!("{came} descriptors came instead of {needed}"));
        }
        let mut files = files.into_iter();
        let layer = files.next().map(File::from);
        let clones: Vec<_> = std::iter::from_fn(|| CloneFiles::take(&mut files)).collect();
        for clone in &clones {
            net::check(&clone.vm.wire).map_err(|error| ErrorChain(&error).to_string())?;
        }
        let layer = layer.ok_or("no descriptor came")?;
        Ok(Self {
            config,
            layer,
            clones,
        })
    }
}

impl CloneFiles {
    fn take(files: &mut impl Iterator<Item = OwnedFd>) -> Option<Self> {
        const { assert!(DESCRIPTORS_PER_CLONE == 5) };
        Some(Self {
            control: files.next()?.into(),
            vm: VmFiles {
                vsock: files.next()?.into(),
                layer: files.next()?.into(),
                console: files.next()?.into(),
                wire: files.next()?,
            },
        })
    }

    pub(crate) fn split(self) -> (UnixListener, VmFiles) {
        (self.control, self.vm)
    }

    /// The descriptors, for those that close all others.
    pub(crate) fn descriptors(&self) -> [RawFd; DESCRIPTORS_PER_CLONE] {
        [
            self.control.as_raw_fd(),
            self.vm.vsock.as_raw_fd(),
            self.vm.layer.as_raw_fd(),
            self.vm.console.as_raw_fd(),
            self.vm.wire.as_raw_fd(),
        ]
    }
}

/// Makes the clones of a VM whose vCPUs stand still. Returns in every process there is then.
pub(crate) fn deliver(order: Order, session: &mut Session) -> Delivered {
    let Order {
        config,
        layer,
        clones,
    } = order;
    let mut pids = Vec::new();
    if let Err(error) = session.freeze() {
        let error = Some(ErrorChain(&error).to_string());
        return Delivered::Parent { pids, error };
    }
    session.share(&mut OwnFiles {
        layer: Some(layer),
        ..OwnFiles::default()
    });
    let gate = match Gate::new() {
        Ok(gate) => gate,
        Err(error) => {
            let error = Some(format!("the host has no pipe left: {error}"));
            return Delivered::Parent { pids, error };
        }
    };
    for files in clones {
        match fork::fork() {
            Ok(Forked::Parent { child }) => pids.push(child),
            Ok(Forked::Child) => {
                gate.wait();
                return Delivered::Child(Box::new(Birth { files, config }));
            }
            Err(error) => {
                let error = Some(format!("the host makes no further process: {error}"));
                return Delivered::Parent { pids, error };
            }
        }
    }
    Delivered::Parent { pids, error: None }
}

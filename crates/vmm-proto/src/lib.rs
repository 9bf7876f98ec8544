//! What the host daemon and one VM process say to each other over the VM's control socket.
//!
//! Messages are JSON (people read them while debugging, and none is on a path where a microsecond counts) behind a
//! 4-byte little-endian length. The daemon sends [`Request`]s; the VM process answers each with a [`Reply`] of the
//! same id, and may send [`Event`]s at any time. Several daemons may be connected (one that restarts adopts the VMs
//! of the one before).
//!
//! This crate must not know sockets, KVM or sandboxes.
#![forbid(unsafe_code)]

mod codec;
mod freeze;
mod message;

pub use codec::{MESSAGE_MAX, decode, encode};
pub use freeze::{FROZEN_DISK, FROZEN_MEMORY, FROZEN_STATE, FreezeConfig, FreezeReport, ThawConfig, VmSize};
pub use message::{
    CLONES_MAX, CloneConfig, CloneReport, Command, ConsoleConfig, DESCRIPTORS_PER_CLONE, DiskConfig,
    EndCause, EndReport, Event, FromVmm, Outcome, Reply, Request, RestoreConfig, Stats, VmConfig, VmState,
    VsockConfig,
};
pub use pod_types::{CodecError, LEN_BYTES};

/// Protocol version; carried in every [`Request`], and another one is refused.
pub const VERSION: u16 = 3;

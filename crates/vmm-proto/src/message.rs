//! The messages of the control socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`crate::VERSION`] of the sender.
    pub version: u16,
    /// Chosen by the sender; comes back in the [`Reply`].
    pub id: u64,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Build the VM and let it run. Once per process.
    Start(Box<VmConfig>),
    /// Park every vCPU; answered when all stand still. Pausing a paused VM is fine.
    Pause,
    Resume,
    Stats,
    /// End the VM now, as if the power were cut. An orderly end is asked of the guest's agent.
    Stop,
}

/// From the VM process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromVmm {
    Reply(Reply),
    Event(Event),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub id: u64,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Stats(Stats),
    /// Nothing was changed. The text is a whole error chain.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The last message: the process exits after it.
    Ended(EndReport),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReport {
    pub cause: EndCause,
    /// The last lines of the guest's console, at most 16 KiB, made valid UTF-8. Written by the guest: do not trust it.
    pub console_tail: String,
    pub uptime_ms: u64,
}

/// Why a VM is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The guest powered itself off.
    PowerOff,
    /// The guest asked for a reset; a sandbox is not rebooted.
    Reset,
    /// The guest's kernel panicked.
    GuestPanic,
    /// A vCPU met a fault it could not deliver.
    TripleFault,
    /// [`Command::Stop`].
    Stopped,
    /// The VM process met an error of its own or of the host's kernel: the whole chain.
    Internal(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmConfig {
    pub vcpus: u8,
    pub ram_mib: u32,
    /// An uncompressed ELF `vmlinux`.
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// Appended to what the VM process itself puts on the kernel's command line; may be empty.
    pub kernel_arguments: String,
    pub disk: DiskConfig,
    pub vsock: VsockConfig,
    pub console: ConsoleConfig,
}

/// The root disk: an immutable base, and a private layer that takes all writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// A raw image, opened read-only. Its length is a multiple of 4 KiB.
    pub base: PathBuf,
    /// Created by the VM process, must not exist.
    pub layer: PathBuf,
    /// Size the guest sees, at least that of the base, a multiple of 4 KiB.
    pub size_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VsockConfig {
    pub guest_cid: u32,
    /// Unix socket on which the VM process listens. A guest that connects to the host's port P is connected to the
    /// socket at this path with `_P` appended.
    pub socket: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleConfig {
    pub log: PathBuf,
    /// The log never grows beyond this; the oldest lines go first.
    pub log_bytes_max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub state: VmState,
    pub uptime_ms: u64,
    /// Guest memory that is resident on the host, in bytes.
    pub memory_resident_bytes: u64,
    pub disk_layer_bytes: u64,
    pub block_reads: u64,
    pub block_writes: u64,
    pub block_flushes: u64,
    pub vsock_rx_bytes: u64,
    pub vsock_tx_bytes: u64,
    pub vsock_connections: u64,
    pub vcpu_exits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// No [`Command::Start`] yet.
    Unstarted,
    Running,
    Paused,
}

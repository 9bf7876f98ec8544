//! The messages of the control socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{FreezeConfig, FreezeReport, ThawConfig};

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
    /// Build the VM of a snapshot and keep it paused: a zygote, to be cloned, or one VM to be resumed. Once per
    /// process, instead of [`Command::Start`].
    Restore(Box<RestoreConfig>),
    /// Write the VM, which must be paused, to files in this directory, which must exist and be empty.
    Snapshot {
        dir: PathBuf,
    },
    /// Make clones of the VM, running or paused; answered with [`Outcome::Cloned`] right after the last `fork(2)`,
    /// when the VM itself runs on and the clones may still be building their virtual CPUs. Brings descriptors; see
    /// [`CloneConfig`].
    Clone(CloneConfig),
    /// Write down which pages this VM, a clone of a restored VM, has touched since it was made, for
    /// [`RestoreConfig::working_set`]. The VM must be paused; the file must not exist.
    RecordWorkingSet {
        file: PathBuf,
    },
    /// Write the VM, which must be paused and stays so, to files that outlive it; answered with [`Outcome::Frozen`].
    /// Brings descriptors; see [`FreezeConfig`].
    Freeze(FreezeConfig),
    /// Build a VM that was frozen, paused. Once per process, instead of [`Command::Start`].
    Thaw(Box<ThawConfig>),
    /// Connect the guest's network device to another wire than the one it has, if it has one; the old one is closed. Only
    /// when there is a VM. Brings one descriptor: a connected Unix socket of type `SOCK_SEQPACKET`, on which each message
    /// is an Ethernet frame. A VM that was started, restored or thawed begins without a wire, a clone with its own.
    Wire,
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
    Cloned(CloneReport),
    Frozen(FreezeReport),
    /// Nothing was changed. The text is a whole error chain.
    Failed(String),
    /// The snapshot was made by another version, for another CPU, or is damaged: it must be built again. Nothing was
    /// changed. The text is a whole error chain.
    Unusable(String),
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

/// What a restored VM needs besides its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreConfig {
    /// Directory that [`Command::Snapshot`] has filled.
    pub snapshot: PathBuf,
    /// What [`Command::RecordWorkingSet`] wrote: clones populate these pages before they run. Without it they fault
    /// in each page as the guest touches it.
    pub working_set: Option<PathBuf>,
    /// The raw image the snapshot's disk lies over, opened read-only; must be the one the VM was started with.
    pub base: PathBuf,
    /// Takes what the restored VM itself writes. Created by the VM process, must not exist.
    pub layer: PathBuf,
    pub vsock: VsockConfig,
    pub console: ConsoleConfig,
}

/// Clones to be made in one go.
///
/// With the request come open files as ancillary data (`SCM_RIGHTS`), so that neither parent nor clone has to see
/// any directory: first the parent's next disk layer, and then for each clone in order
///
/// 1. its control socket: a Unix stream socket that listens already,
/// 2. its vsock socket: the same,
/// 3. its disk layer: an empty regular file, open for reading and writing,
/// 4. its console log: the same,
/// 5. its wire, as [`Command::Wire`] brings one.
///
/// `1 + 5 × count` descriptors in all. They follow the message's first byte, in as many parts as one message of
/// ancillary data takes (253 each), each with at least one byte of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneConfig {
    /// At least 1, at most [`CLONES_MAX`].
    pub count: u8,
    /// Whether the clones run as soon as they are built, or stay paused.
    pub run: bool,
    /// Bound of each clone's console log.
    pub console_log_bytes_max: u64,
}

impl CloneConfig {
    /// How many descriptors come with it.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        1 + usize::from(self.count) * DESCRIPTORS_PER_CLONE
    }
}

/// Most clones made by one [`Command::Clone`].
pub const CLONES_MAX: u8 = 32;

/// Descriptors that come with one clone.
pub const DESCRIPTORS_PER_CLONE: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneReport {
    /// Process ids, in the order of the descriptors. Fewer than asked for when the host refused a further process;
    /// `error` says why then.
    pub pids: Vec<u32>,
    pub error: Option<String>,
    /// From the request to park until the VM's own CPUs run again (or would, when it is paused).
    pub paused_us: u64,
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
    /// Frames the guest has received, their bytes, and those that could not be given to it.
    pub net_rx_packets: u64,
    pub net_rx_bytes: u64,
    pub net_rx_dropped: u64,
    /// Frames the guest has sent, their bytes, and those that were none or had no wire.
    pub net_tx_packets: u64,
    pub net_tx_bytes: u64,
    pub net_tx_dropped: u64,
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

//! Putting a VM into files that outlive it, and making one of them again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::RestoreConfig;

/// Files of a frozen VM, by their names in its directory.
pub const FROZEN_MEMORY: &str = "memory";
pub const FROZEN_DISK: &str = "disk";
pub const FROZEN_STATE: &str = "state";

/// How a VM is frozen.
///
/// With the request come open files as ancillary data, since the process may see no directory: three empty regular
/// files open for reading and writing, for [`FROZEN_MEMORY`], [`FROZEN_DISK`] and [`FROZEN_STATE`] in this order, and
/// then, if `pagemap` says so, `/proc/<pid>/pagemap` of the VM process, open for reading: a confined process cannot open
/// its own, and without it all of memory has to be compared with what the VM was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeConfig {
    pub pagemap: bool,
    /// Write all memory that is not zeros, whatever the VM was made of: nothing else is needed to go on then.
    pub whole: bool,
}

impl FreezeConfig {
    /// How many descriptors come with it.
    #[must_use]
    pub fn descriptors(self) -> usize {
        3 + usize::from(self.pagemap)
    }
}

/// What a freeze has written. None of it need be on stable storage yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeReport {
    /// The snapshot over whose memory the VM lies, as the 32 hexadecimal digits of the bytes its memory file ends in.
    pub base: Option<String>,
    /// Pages of memory that differ from what the VM was made of.
    pub pages_changed: u64,
    /// Runs of them, each stored or all zeros.
    pub runs: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub state_bytes: u64,
    /// Where the time went.
    pub memory_us: u64,
    pub disk_us: u64,
}

/// What a VM is made of that was frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThawConfig {
    /// Directory with the files that [`crate::Command::Freeze`] has written.
    pub space: PathBuf,
    /// As for a snapshot. `snapshot` is the one named in [`FreezeReport::base`], if one is; nothing in it but the memory is
    /// needed.
    pub restore: RestoreConfig,
    /// What it counts for: files that say they are larger are refused.
    pub size: VmSize,
}

/// How large a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSize {
    pub vcpus: u8,
    pub ram_mib: u32,
    /// The most that its disk may hold.
    pub disk_gib: u32,
}

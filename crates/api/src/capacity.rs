//! `GET /v1/capacity`: what this host has left, as simple true figures.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub memory: MemoryCapacity,
    pub sandboxes: SandboxCounts,
    pub execs: RunCapacity,
    pub templates: Vec<String>,
}

/// Guest memory, in MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryCapacity {
    /// Sum that all sandboxes together may have.
    pub budget_mib: u64,
    pub used_mib: u64,
    pub free_mib: u64,
    /// What the host's kernel calls available right now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_available_mib: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxCounts {
    pub booting: u32,
    pub ready: u32,
    pub failed: u32,
    pub ending: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCapacity {
    pub running: u32,
    /// Execs that may be in progress or queued in one sandbox.
    pub per_sandbox_max: u32,
    /// VMs that may boot at the same time; further creates wait.
    pub boots_at_once_max: u32,
}

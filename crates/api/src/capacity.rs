//! `GET /v1/capacity`: what this host has left, as simple true figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    pub memory: MemoryCapacity,
    /// Absent where the host cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskCapacity>,
    pub sandboxes: SandboxCounts,
    pub execs: RunCapacity,
    pub templates: Vec<String>,
    /// One for each template, in the same order.
    #[serde(default)]
    pub pools: Vec<PoolCapacity>,
    /// Processes without a VM that wait for the next resume; there is one where sandboxes are frozen and resumed.
    #[serde(default)]
    pub standby: u32,
    /// How near the host is to its limits; for the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headroom: Vec<Headroom>,
    /// Why processes of VMs have no limits that the kernel enforces, where they have none; for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms_unlimited: Option<String>,
    /// Of all tenants together, so only shown where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent: Option<RecentMinute>,
}

/// One limit of the host, and what of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Headroom {
    pub what: HeadroomKind,
    pub used: u64,
    pub limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadroomKind {
    /// What sandboxes count for, and may, in MiB.
    MemoryBudget,
    /// What is used of the host's disk, and may be without touching the reserve, in MiB.
    Disk,
    /// Threads of the whole host.
    Threads,
    /// Descriptors of the daemon.
    OpenFiles,
    /// Open files of the whole host.
    FilesOfHost,
    /// Memory maps of one VM's process.
    Maps,
}

/// The file system on which the disks of sandboxes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskCapacity {
    pub total_mib: u64,
    pub free_mib: u64,
    /// What stays free: below it no sandboxes are made, and before that guests find their disks full.
    pub reserve_mib: u64,
}

/// What happened in the last minute, or since the start when that is shorter ago.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecentMinute {
    /// How long that is.
    pub seconds: u64,
    pub creates: Latency,
    pub runs: Latency,
}

/// How many, and how long they took in milliseconds, to 15 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    pub count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
}

/// Guest memory, in MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryCapacity {
    /// Sum that all sandboxes together may have.
    pub budget_mib: u64,
    /// What they count for: one that was booted for all of its memory, a clone for what clones of its kind were
    /// measured to need of their own. VMs that wait in pools count like others.
    pub used_mib: u64,
    pub free_mib: u64,
    /// What the host's kernel calls available right now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_available_mib: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxCounts {
    pub booting: u32,
    pub ready: u32,
    pub failed: u32,
    pub ending: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunCapacity {
    pub running: u32,
    /// Execs that may be in progress or queued in one sandbox.
    pub per_sandbox_max: u32,
    /// VMs that may boot at the same time; further creates wait.
    pub boots_at_once_max: u32,
}

/// How creations from one template are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolCapacity {
    pub template: String,
    pub state: PoolState,
    /// Why there is no snapshot to clone from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// VMs that wait, ready to be handed out.
    pub size: u32,
    pub target: u32,
    /// VMs that are being made for the pool right now.
    pub filling: u32,
    /// Creations that were served from the pool, and those that were not though its template and shape were right.
    pub hits: u64,
    pub misses: u64,
    /// Hits of all of them, in hundredths of a percent.
    pub pool_hit_rate_bp: u32,
    /// Mean time from a miss to its VM, cloned or booted, in milliseconds.
    pub on_demand_boot_ms_mean: f64,
    /// Time to make one VM for the pool: cloned, identified, warmed, paused.
    pub refill_ms: Histogram,
    /// What a clone counts for in `memory`, in MiB.
    pub clone_mib: u32,
    /// Process of the VM that clones are made of, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zygote_pid: Option<u32>,
    /// How often it was restored from the snapshot.
    pub restores: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    /// This host boots every sandbox.
    Off,
    /// The snapshot is being made or loaded; creations wait for it.
    Building,
    Ready,
    /// It could not be made, and will be tried again; creations boot meanwhile.
    Failed,
}

/// Counts of what took at most so long, each including those before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Histogram {
    pub buckets: Vec<Bucket>,
    pub count: u64,
    pub sum_ms: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    pub le_ms: u32,
    pub count: u64,
}

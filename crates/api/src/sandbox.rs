//! Sandboxes as responses show them.

use egress::Policy;
use pod_types::SandboxId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::egress::EgressValue;
use crate::fields::InvalidRequest;
use crate::openapi::SandboxIdText;

/// Answer to `POST /v1/sandboxes`: the VM has booted and its agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedSandbox {
    #[schemars(with = "SandboxIdText")]
    pub id: SandboxId,
    /// Always `ready`.
    pub state: SandboxState,
    pub template: String,
    /// Guest memory, in MiB.
    pub ram_mib: u32,
    /// Root disk, in GiB, rounded up.
    pub rootfs_gb: u32,
    pub vcpus: u8,
    /// Longest life, in seconds: what was asked for, capped by the tenant's tier; absent where there is no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// The same for time without a use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<u64>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Only when the host is configured with a region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Base URL at which this sandbox is reached; only when the host is configured with a public URL. The official
    /// client stores it on disk for days, so a wrong one does lasting harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Answer to `GET /v1/sandboxes/{id}`, and each entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxInfo {
    #[schemars(with = "SandboxIdText")]
    pub id: SandboxId,
    pub state: SandboxState,
    pub template: String,
    /// Guest memory, in MiB.
    pub ram_mib: u32,
    /// Root disk, in GiB, rounded up.
    pub rootfs_gb: u32,
    pub vcpus: u8,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Longest life, in seconds: what was asked for, capped by the tenant's tier; absent where there is no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// The same for time without a use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<u64>,
    /// When its life is over, in milliseconds since the Unix epoch by the host's clock at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// When it has been idle for too long; absent while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_expires_at_ms: Option<u64>,
    /// Its last use: an exec, traffic of a terminal or of files, a fork, a merge, a change of its terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at_ms: Option<u64>,
    pub persistent: bool,
    /// What it may reach.
    #[schemars(with = "EgressValue")]
    pub egress: Policy,
    /// Names of secrets that it may use; those that were revoked since are nothing to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Process of the VM on its host; absent before it is started and after it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm_pid: Option<u32>,
    /// What it was forked from; may be gone by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SandboxIdText>")]
    pub parent: Option<SandboxId>,
    /// Sandboxes forked from it that still exist.
    #[serde(default)]
    #[schemars(with = "Vec<SandboxIdText>")]
    pub children: Vec<SandboxId>,
    /// States that it can be rolled back to, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<Checkpoint>,
    /// Forks that lie between its VM and one made from a template. A merge puts another VM under an id.
    #[serde(default)]
    pub generation: u32,
    /// How its VM came to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Execs in progress, those waiting in the sandbox's queue included.
    pub running_execs: u32,
    /// Why the sandbox failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Counters of the VM process; absent from lists and when the VM does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<SandboxStats>,
    /// What has gone over its network; absent from lists and when the network does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<SandboxNetwork>,
    /// Only in a list that was asked for with `usage=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<SandboxUsage>,
}

/// Answer to `GET /v1/sandboxes`, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxList {
    pub sandboxes: Vec<SandboxInfo>,
}

impl SandboxList {
    /// Whether a query asks for `usage`.
    ///
    /// # Errors
    /// Its value is neither `true` nor `false`.
    pub fn wants_usage(query: &str) -> Result<bool, InvalidRequest> {
        let value = query.split('&').find_map(|pair| pair.strip_prefix("usage="));
        match value {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(InvalidRequest::value("usage", "true or false", other)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    Booting,
    Ready,
    /// It is being written to disk, and is a space then.
    Freezing,
    /// The VM is gone; the sandbox can only be deleted.
    Failed,
    Ending,
}

/// How a VM came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// It had been waiting in the pool of its template.
    Pool,
    /// Cloned from its template's snapshot when it was asked for.
    Clone,
    /// Booted when it was asked for.
    Boot,
    /// Cloned from another sandbox.
    Fork,
    /// Resumed from a space.
    Space,
    /// Cloned from a checkpoint of the sandbox.
    Rollback,
}

/// What a sandbox uses of its host, from counters that are at most a second old.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxUsage {
    /// Runs that have ended, and how long they took in all, without waiting for each other.
    pub runs: u64,
    pub run_ms: u64,
    /// CPU time that the VM's process has used since it began; what its guest used included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Memory of the VM's process in RAM, with what it shares with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_resident_bytes: Option<u64>,
    /// The part of it that no file backs: what the VM has written to, or inherited from what it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_own_bytes: Option<u64>,
}

/// What has gone over a sandbox's network since it has its wire: since it was created, forked or resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxNetwork {
    /// Content that the sandbox has sent out and received, in bytes.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Connections and exchanges that are open now.
    pub flows: u64,
    /// Those that were refused by what the sandbox may reach.
    pub denied: u64,
}

/// Counters since the VM started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxStats {
    pub uptime_ms: u64,
    /// Guest memory resident on the host, in bytes.
    pub memory_resident_bytes: u64,
    /// What the sandbox has written to its disk, in bytes.
    pub disk_layer_bytes: u64,
    pub block_reads: u64,
    pub block_writes: u64,
    pub block_flushes: u64,
    pub vcpu_exits: u64,
}

//! What a host is told at its start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::AuthConfig;
use crate::disk::DiskProbe;
use crate::memory::Probe;
use crate::network::NetdSpawner;
use crate::ports::PortsDomain;
use crate::storage::Templates;
use crate::tenants::TenantsConfig;
use crate::webhooks::Allowed;

#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Everything this daemon keeps; one daemon at a time.
    pub data_dir: PathBuf,
    pub templates: Templates,
    /// Virtual CPUs of each sandbox.
    pub vcpus: u8,
    /// Guest memory of a sandbox that does not ask for an amount, in MiB.
    pub ram_mib: u32,
    pub memory: MemoryLimits,
    pub disk: DiskLimits,
    /// Whether the process of each VM gets a control group with limits, where the host allows it.
    pub vm_limits: bool,
    pub pools: Pools,
    /// VMs that may boot at the same time; further creates wait.
    pub boots_at_once: u32,
    /// Execs in progress or queued in one sandbox.
    pub runs_per_sandbox: u32,
    /// States that one sandbox can be rolled back to.
    pub checkpoints_per_sandbox: u32,
    /// Shown in responses when set; makes `/r/<region>/v1/…` the only prefix served.
    pub region: Option<String>,
    /// Public base URL, shown in responses when set.
    pub endpoint: Option<String>,
    /// Below it names of hosts mean ports of sandboxes; none do without.
    pub ports_domain: Option<PortsDomain>,
    pub auth: AuthConfig,
    /// The address that clients reach; decides whether keys are required.
    pub address: SocketAddr,
    pub tenants: TenantsConfig,
    pub webhooks: WebhooksConfig,
    pub spaces: SpacesConfig,
    /// What starts the network process; without it sandboxes reach nothing.
    pub network: Option<Arc<dyn NetdSpawner>>,
    pub timing: Timing,
}

/// Where webhooks may go.
#[derive(Clone, Debug, Default)]
pub struct WebhooksConfig {
    /// Receivers that are not public and may be used all the same. Unless it is said, that is nothing, and this
    /// machine with the networks around it where nobody is asked for a key.
    pub allow: Option<Allowed>,
}

impl WebhooksConfig {
    /// Whoever can call a host that asks for no keys can send from its machine anyway.
    pub(crate) fn allowed(&self, is_open: bool) -> Allowed {
        let otherwise = || {
            if is_open {
                Allowed::nearby()
            } else {
                Allowed::default()
            }
        };
        self.allow.clone().unwrap_or_else(otherwise)
    }
}

/// What becomes of sandboxes on disk, and when they get there by themselves.
#[derive(Clone, Copy, Debug)]
pub struct SpacesConfig {
    /// A request for a sandbox that was frozen resumes it under its old id, unless its tenant is set otherwise.
    pub wake: bool,
    /// Spaces older than this are removed; none are when there is no such time.
    pub keep: Option<Duration>,
    /// At shutdown, how long persistent sandboxes may take to be frozen, all together. Those that were not are ended.
    pub shutdown_freeze: Duration,
    /// When memory runs out, persistent sandboxes are frozen before any is ended.
    pub freeze_on_pressure: bool,
}

impl Default for SpacesConfig {
    fn default() -> Self {
        Self {
            wake: false,
            keep: None,
            shutdown_freeze: Duration::from_secs(20),
            freeze_on_pressure: true,
        }
    }
}

/// How much memory sandboxes may have.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Sum of what all sandboxes count for, in MiB.
    pub budget_mib: u64,
    /// What the host keeps for itself, in MiB: below it nothing is admitted and pools are emptied; below half of it
    /// the largest sandbox ends.
    pub floor_mib: u64,
    /// How memory is measured.
    pub probe: Probe,
    /// How the memory that only one process has is measured, in MiB.
    pub own: fn(u32) -> Option<u64>,
}

/// How much of the disk is not for sandboxes.
#[derive(Clone, Copy, Debug)]
pub struct DiskLimits {
    /// What stays free of the file system with the data directory, in MiB; a twentieth of it unless it is said.
    pub reserve_mib: Option<u64>,
    /// How room is measured.
    pub probe: DiskProbe,
}

/// VMs that wait to be handed out.
#[derive(Clone, Debug)]
pub struct Pools {
    /// Whether VMs are cloned from snapshots at all; every sandbox is booted otherwise.
    pub snapshots: bool,
    /// VMs that wait, by template; others have [`Pools::default_size`].
    pub sizes: BTreeMap<String, u32>,
    /// VMs of one template that are made for its pool at the same time.
    pub refills_at_once: u32,
    /// Whether the pages that a clone is known to need are put in place when it is made, and not as it touches them.
    pub working_sets: bool,
}

impl Pools {
    /// How many VMs of a template wait, given what all sandboxes may have.
    pub(crate) fn size(&self, template: &str, is_default: bool, budget_mib: u64) -> u32 {
        let named = self.sizes.get(template).copied();
        named.unwrap_or_else(|| Self::default_size(is_default, budget_mib))
    }

    /// A VM that waits takes a few dozen MiB. The default template gets about a tenth of the budget, others a fourth
    /// of that.
    fn default_size(is_default: bool, budget_mib: u64) -> u32 {
        let (each_mib, most) = if is_default { (512, 16) } else { (2048, 4) };
        u32::try_from(budget_mib / each_mib).unwrap_or(most).min(most)
    }
}

/// Every bound on time. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the start of a VM process until its agent knows who it is.
    pub boot_deadline: Duration,
    /// How long a creation waits for a snapshot that is being made, before it boots.
    pub snapshot_patience: Duration,
    /// How long a creation waits for its turn, when the host makes as many as it can.
    pub turn_patience: Duration,
    /// How long a creation of a tenant with less than its share waits for memory that others give back.
    pub room_patience: Duration,
    /// A silent stream gets a bare newline this often; the official client gives up after 30 s without a byte.
    pub heartbeat: Duration,
    /// A creation's response is begun after this long, whatever comes of it; the same client's limit is the reason.
    pub hold_create: Duration,
    /// A run's response waits this long for the run to end, so that a short run's answer leaves as one packet.
    pub hold_silent: Duration,
    /// The same once there is output to send: shorter, because somebody may be watching it.
    pub hold_output: Duration,
    /// A client that takes no byte for this long is gone.
    pub client_stall: Duration,
    /// An idle connection is kept this long; also the limit for the header of a request.
    pub keep_alive: Duration,
    /// At shutdown, how long runs in progress may go on.
    pub shutdown_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            boot_deadline: Duration::from_secs(300),
            snapshot_patience: Duration::from_secs(120),
            turn_patience: Duration::from_secs(60),
            room_patience: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            hold_create: Duration::from_secs(15),
            hold_silent: Duration::from_millis(20),
            hold_output: Duration::from_millis(2),
            client_stall: Duration::from_secs(120),
            keep_alive: Duration::from_secs(75),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

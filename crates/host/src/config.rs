//! What a host is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use crate::storage::Templates;

#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Everything this daemon keeps; one daemon at a time.
    pub data_dir: PathBuf,
    pub templates: Templates,
    /// Virtual CPUs of each sandbox.
    pub vcpus: u8,
    /// Guest memory of a sandbox that does not ask for an amount, in MiB.
    pub ram_mib: u32,
    /// Guest memory that all sandboxes together may have, in MiB.
    pub memory_budget_mib: u64,
    /// VMs that may boot at the same time; further creates wait.
    pub boots_at_once: u32,
    /// Execs in progress or queued in one sandbox.
    pub runs_per_sandbox: u32,
    /// Shown in responses when set; makes `/r/<region>/v1/…` the only prefix served.
    pub region: Option<String>,
    /// Public base URL, shown in responses when set.
    pub endpoint: Option<String>,
    pub timing: Timing,
}

/// Every bound on time. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the start of a VM process until its agent knows who it is.
    pub boot_deadline: Duration,
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

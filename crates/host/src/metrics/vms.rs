//! VMs that ended by themselves, agents that broke the protocol, and what was found lying around.

use prometheus_client::metrics::counter::Counter;
use vmm_proto::EndCause;

use super::families::Families;

/// What a VM was there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sandbox,
    Pool,
    Zygote,
}

const ROLES: [&str; 3] = ["sandbox", "pool", "zygote"];

/// How a VM ended that nobody had told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    PowerOff,
    Reset,
    GuestPanic,
    TripleFault,
    Stopped,
    /// The VM process met an error.
    Internal,
    /// The process went without a word.
    Crash,
    /// It did not answer any more and was ended.
    Silent,
    /// The host had too little memory left and ended it.
    HostMemory,
}

const DEATHS: [&str; 9] = [
    "power_off",
    "reset",
    "guest_panic",
    "triple_fault",
    "stopped",
    "internal",
    "crash",
    "silent",
    "host_memory",
];

#[derive(Debug)]
pub(crate) struct Vms {
    /// By role, then by kind.
    deaths: Vec<Vec<Counter>>,
    pub(crate) agent_errors: Counter,
    orphans: Vec<Counter>,
}

impl Vms {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        Self {
            deaths: families.counter_grid(
                "vm_deaths",
                "VMs that ended though nobody had told them to, by what they were for and how they ended",
                ("role", &ROLES),
                ("kind", &DEATHS),
            ),
            agent_errors: families.counter(
                "agent_protocol_errors",
                "Agents that sent what they must not, or nothing in time",
            ),
            orphans: families.counters(
                "reaper_findings",
                "VM processes and files that belonged to nobody and were removed",
                ("what", &["process", "files"]),
            ),
        }
    }

    pub(crate) fn died(&self, role: Role, death: Death) {
        if let Some(count) = self
            .deaths
            .get(role as usize)
            .and_then(|counts| counts.get(death as usize))
        {
            count.inc();
        }
    }

    /// So many were found and removed.
    pub(crate) fn orphans(&self, processes: u64, files: u64) {
        for (count, more) in self.orphans.iter().zip([processes, files]) {
            count.inc_by(more);
        }
    }
}

impl Death {
    pub(crate) fn of(cause: &EndCause) -> Self {
        match cause {
            EndCause::PowerOff => Self::PowerOff,
            EndCause::Reset => Self::Reset,
            EndCause::GuestPanic => Self::GuestPanic,
            EndCause::TripleFault => Self::TripleFault,
            EndCause::Stopped => Self::Stopped,
            EndCause::Internal(_) => Self::Internal,
        }
    }
}

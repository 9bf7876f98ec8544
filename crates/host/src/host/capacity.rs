//! What the host has left.

use std::sync::Arc;

use api::{Capacity, DiskCapacity, MemoryCapacity, PoolCapacity, RunCapacity, SandboxCounts, SandboxState};

use super::Host;
use crate::nursery;
use crate::sandbox::Sandbox;
use crate::tenants::Account;

impl Host {
    /// What the host has left. Sandboxes and runs are counted of one tenant, or of all for the operator.
    pub(crate) fn capacity(&self, of: Option<&Account>) -> Capacity {
        let mut sandboxes = SandboxCounts::default();
        let counts = |sandbox: &&Arc<Sandbox>| of.is_none_or(|of| of.tenant() == sandbox.tenant);
        for sandbox in self.registry().all().filter(counts) {
            match sandbox.info().state {
                SandboxState::Booting => sandboxes.booting += 1,
                SandboxState::Ready | SandboxState::Freezing => sandboxes.ready += 1,
                SandboxState::Failed => sandboxes.failed += 1,
                SandboxState::Ending => {}
            }
        }
        // A deleted sandbox is unknown at once, and its owner lives until its VM is gone.
        let known = sandboxes.booting + sandboxes.ready + sandboxes.failed;
        let owners = of.map_or(self.owners.len() as u64, Account::owners);
        let owners = u32::try_from(owners).unwrap_or(u32::MAX);
        sandboxes.ending = owners.saturating_sub(known);
        let (budget_mib, used_mib) = (self.budget.total_mib(), self.budget.used_mib());
        Capacity {
            memory: MemoryCapacity {
                budget_mib,
                used_mib,
                free_mib: budget_mib.saturating_sub(used_mib),
                host_available_mib: (self.config.memory.probe)(),
            },
            disk: self.disk.space().map(|(space, reserve_mib)| DiskCapacity {
                total_mib: space.total_mib,
                free_mib: space.free_mib,
                reserve_mib,
            }),
            sandboxes,
            execs: RunCapacity {
                running: of.map_or(self.activity.runs(), |of| {
                    u32::try_from(of.runs()).unwrap_or(u32::MAX)
                }),
                per_sandbox_max: self.config.runs_per_sandbox,
                boots_at_once_max: self.config.boots_at_once,
            },
            templates: self.config.templates.names().map(str::to_owned).collect(),
            pools: self
                .config
                .templates
                .names()
                .map(|name| self.pool(name))
                .collect(),
            standby: self.tools.standby.count(),
            headroom: Vec::new(),
            vms_unlimited: None,
            recent: None,
        }
    }

    fn pool(&self, template: &str) -> PoolCapacity {
        match self.nurseries.get(template) {
            Some(nursery) => nursery.capacity(),
            None => PoolCapacity {
                template: template.to_owned(),
                ..nursery::nothing()
            },
        }
    }
}

//! What VMs use of their host, for those who watch.
//!
//! Read from counters that the kernel keeps anyway, only when somebody asks, at most once a second for all who ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::{SandboxInfo, SandboxUsage};
use pod_types::SandboxId;

use super::Host;
use crate::auth::Tenant;
use crate::memory::{Memory, memory_of};
use crate::metrics::cpu_time;
use crate::sandbox::Sandbox;

/// How old figures may be.
const GOOD_FOR: Duration = Duration::from_millis(900);

/// The last look at all VMs.
#[derive(Debug, Default)]
pub(super) struct UsageCache(Mutex<Option<Arc<Look>>>);

#[derive(Debug)]
struct Look {
    taken: Instant,
    /// By process.
    vms: HashMap<u32, Vm>,
}

#[derive(Clone, Copy, Debug)]
struct Vm {
    cpu: Duration,
    memory: Memory,
}

impl Host {
    /// A tenant's sandboxes, oldest first, with what they use.
    pub(crate) async fn list_with_usage(&self, tenant: Tenant) -> Vec<SandboxInfo> {
        let mut list = self.list(tenant);
        let known: HashMap<SandboxId, Arc<Sandbox>> = self
            .registry()
            .all()
            .map(|sandbox| (sandbox.id(), Arc::clone(sandbox)))
            .collect();
        let pids = known.values().filter_map(|sandbox| sandbox.vmm_pid());
        let seen = self.usage.look(pids.collect()).await;
        for info in &mut list {
            // Another process may have come to have that number since, if the VM has gone.
            let Some(sandbox) = known
                .get(&info.id)
                .filter(|sandbox| sandbox.vmm_pid() == info.vmm_pid)
            else {
                continue;
            };
            let vm = info.vmm_pid.and_then(|pid| seen.vms.get(&pid));
            let (runs, run_time) = sandbox.tally.runs();
            info.usage = Some(SandboxUsage {
                runs,
                run_ms: milliseconds(run_time),
                cpu_ms: vm.map(|vm| milliseconds(vm.cpu)),
                memory_resident_bytes: vm.map(|vm| vm.memory.resident_bytes),
                memory_own_bytes: vm.map(|vm| vm.memory.own_bytes),
            });
        }
        list
    }
}

impl UsageCache {
    async fn look(&self, pids: Vec<u32>) -> Arc<Look> {
        let last = self.last().clone();
        if let Some(last) = last.filter(|look| look.taken.elapsed() < GOOD_FOR) {
            return last;
        }
        let vms = tokio::task::spawn_blocking(move || look(&pids)).await;
        let new = Arc::new(Look {
            taken: Instant::now(),
            vms: vms.unwrap_or_default(),
        });
        *self.last() = Some(Arc::clone(&new));
        new
    }

    fn last(&self) -> MutexGuard<'_, Option<Arc<Look>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(pids: &[u32]) -> HashMap<u32, Vm> {
    let one = |pid: &u32| {
        let vm = Vm {
            cpu: cpu_time(*pid)?,
            memory: memory_of(*pid)?,
        };
        Some((*pid, vm))
    };
    pids.iter().filter_map(one).collect()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

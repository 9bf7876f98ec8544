//! How near this host is to each of its limits.

use api::{Headroom, HeadroomKind};

use super::Host;
use crate::headroom;

impl Host {
    /// Why VM processes have no limits that the kernel enforces, if they have none.
    pub(crate) fn vms_unlimited(&self) -> Option<String> {
        self.unlimited.clone()
    }

    /// How near the host is to its limits.
    pub(crate) async fn headroom(&self) -> Vec<Headroom> {
        let mut pids: Vec<u32> = self
            .registry()
            .all()
            .filter_map(|sandbox| sandbox.vmm_pid())
            .collect();
        pids.extend(
            self.nurseries
                .values()
                .filter_map(|nursery| nursery.capacity().zygote_pid),
        );
        let of_kernel = tokio::task::spawn_blocking(move || headroom::of_kernel(&pids)).await;
        let (used, budget) = (self.budget.used_mib(), self.budget.total_mib());
        let mut all = vec![headroom::one(HeadroomKind::MemoryBudget, used, budget)];
        if let Some((space, reserve_mib)) = self.disk.space() {
            let used = space.total_mib.saturating_sub(space.free_mib);
            let limit = space.total_mib.saturating_sub(reserve_mib);
            all.push(headroom::one(HeadroomKind::Disk, used, limit));
        }
        all.extend(of_kernel.unwrap_or_default());
        all
    }
}

//! The end of a sandbox that is no longer wanted, and of all of them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifecycle::EndReason;
use pod_types::SandboxId;
use tokio::time::{sleep, timeout};

use super::Host;
use crate::auth::Tenant;
use crate::sandbox::{Message, Sandbox};
use crate::storage::{self, Spared};
use crate::vm::ProcessName;

/// How long all VMs together may take to end at shutdown.
const END_BOUND: Duration = Duration::from_secs(20);
const END_PAUSE: Duration = Duration::from_millis(5);

/// What a shutdown found.
#[derive(Debug)]
pub struct ShutdownReport {
    /// Sandboxes that were ended.
    pub sandboxes: usize,
    /// Those that were frozen instead, because their clients want them kept.
    pub frozen: usize,
    /// Runs that were still in progress after the grace period.
    pub runs_cut: u32,
    /// VM processes that were left after all were ended; empty unless something is broken. They have been killed.
    pub processes_left: Vec<u32>,
}

impl Host {
    /// Ends a tenant's sandbox. It is unknown from now on; its VM ends in the background.
    pub(crate) async fn delete(&self, id: SandboxId, tenant: Tenant) {
        let removed = self.registry().remove(id, tenant);
        if let Some(sandbox) = removed {
            sandbox.forget_record();
            sandbox.leave_slot();
            sandbox.tell(Message::End(EndReason::Deleted)).await;
        }
    }

    /// Ends all sandboxes of a tenant.
    pub(crate) async fn delete_all(&self, tenant: Tenant) {
        let of_it = |sandbox: &&Arc<Sandbox>| sandbox.tenant == tenant;
        let ids: Vec<_> = self
            .registry()
            .all()
            .filter(of_it)
            .map(|sandbox| sandbox.id())
            .collect();
        for id in ids {
            self.delete(id, tenant).await;
        }
    }

    /// Refuses new work, lets runs end within the grace period, then ends every sandbox. `hurry` cuts the grace short.
    pub async fn shutdown(self: &Arc<Self>, hurry: impl Future<Output = ()>) -> ShutdownReport {
        self.stopping.store(true, Ordering::Relaxed);
        self.background.stop.cancel();
        let grace = timeout(self.config.timing.shutdown_grace, self.activity.quiet());
        tokio::select! {
            _ = grace => {}
            () = hurry => {}
        }
        let runs_cut = self.activity.runs();
        let frozen = self.freeze_persistent().await;
        let sandboxes = self.registry().drain();
        for sandbox in &sandboxes {
            sandbox.leave_slot();
            sandbox.tell(Message::End(EndReason::Shutdown)).await;
        }
        self.owners.close();
        self.background.tasks.close();
        let deadline = Instant::now() + END_BOUND;
        let ended = async {
            self.owners.wait().await;
            self.background.tasks.wait().await;
            for nursery in self.nurseries.values() {
                while nursery.squeeze() {}
            }
            self.tools.standby.close();
            self.tools.homes.close();
        };
        if timeout(END_BOUND, ended).await.is_err() {
            tracing::error!(left = self.owners.len(), "sandboxes did not end in time");
        }
        let roster = self.tools.homes.roster();
        while !(roster.has_no_pids() && roster.has_no_dirs()) && Instant::now() < deadline {
            sleep(END_PAUSE).await;
        }
        // What was killed may take a moment to be gone.
        let left = || -> Vec<u32> {
            let names = self.tools.spawner.running(self.data.vms());
            names.into_iter().map(|ProcessName { pid, .. }| pid).collect()
        };
        let mut processes_left = left();
        while !processes_left.is_empty() && Instant::now() < deadline {
            sleep(END_PAUSE).await;
            processes_left = left();
        }
        self.network.end().await;
        // Sandboxes that ended just now have told so.
        self.webhooks.close().await;
        self.tenants.close().await;
        if !processes_left.is_empty() {
            tracing::error!(pids = ?processes_left, "VM processes are left after shutdown; ending them");
            drop(storage::clear(
                self.data.vms(),
                &*self.tools.spawner,
                &Spared::default(),
            ));
        }
        ShutdownReport {
            sandboxes: sandboxes.len(),
            frozen,
            runs_cut,
            processes_left,
        }
    }
}

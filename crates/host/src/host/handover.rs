//! Leaving every sandbox to the daemon that comes after this one, for an upgrade.
//!
//! What is in the middle of being made is finished, or was never there; runs and terminals go on in their guests. It is
//! what the end of a killed daemon looks like to a VM, only that the books are closed first.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Host;

/// How long creations and forks in progress may take: nobody would get them again.
const BIRTHS_BOUND: Duration = Duration::from_secs(20);
const BIRTHS_PAUSE: Duration = Duration::from_millis(5);

impl Host {
    /// Refuses new work, waits for what is being made, and lets go of all VMs without ending any. The caller ends the
    /// process after this. Gives the number of sandboxes that are left.
    pub async fn leave_running(&self) -> usize {
        self.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        let deadline = Instant::now() + BIRTHS_BOUND;
        while self.activity.births() > 0 && Instant::now() < deadline {
            sleep(BIRTHS_PAUSE).await;
        }
        self.tools.homes.roster().leave();
        self.background.stop.cancel();
        let sandboxes = self.registry().all().count();
        self.webhooks.close().await;
        self.tenants.close().await;
        sandboxes
    }

    /// Lets go of all VMs as a daemon does that is killed.
    #[cfg(test)]
    pub(crate) fn vanish(&self) {
        self.tools.homes.roster().leave();
    }
}

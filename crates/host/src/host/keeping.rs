//! Sandboxes that are frozen or resumed without being asked for: at shutdown, under pressure, when somebody wants one that
//! sleeps; and spaces that have been kept long enough.

use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{FreezeCause, ResumeRequest};
use futures_util::stream::{self, StreamExt as _};
use pod_types::{ErrorChain, SandboxId};
use tokio::time::{sleep, timeout};

use super::{Host, ResumeError};
use crate::auth::Tenant;
use crate::clock;
use crate::sandbox::Sandbox;
use crate::spaces::NoSpace;

/// Sandboxes frozen at once when the host stops: the disk is the narrow place.
const FREEZES_AT_ONCE: usize = 2;
/// How often old spaces are looked for.
const RETENTION_ROUND: Duration = Duration::from_secs(600);
/// After a start, when memories under spaces are checked: when pools are full, as a rule.
const CHECK_PAUSE: Duration = Duration::from_secs(30);
/// Somebody else resumes it: how long, and how often, it is looked whether it is there.
const WAKE_TRIES: u32 = 200;
const WAKE_PAUSE: Duration = Duration::from_millis(50);

impl Host {
    /// Freezes what its clients want kept, as much as there is time for. Gives how many were.
    pub(super) async fn freeze_persistent(self: &Arc<Self>) -> usize {
        let persistent: Vec<Arc<Sandbox>> = {
            let registry = self.registry();
            let wanted = registry.all().filter(|sandbox| sandbox.title().terms.persistent);
            wanted.cloned().collect()
        };
        let count = persistent.len();
        let freezing = stream::iter(persistent)
            .map(|sandbox| async move { self.freeze(&sandbox, FreezeCause::Shutdown).await.is_ok() })
            .buffer_unordered(FREEZES_AT_ONCE)
            .filter(|frozen| std::future::ready(*frozen))
            .count();
        match timeout(self.config.spaces.shutdown_freeze, freezing).await {
            Ok(frozen) => frozen,
            Err(_) => {
                tracing::error!(count, "there was no time to freeze all persistent sandboxes");
                0
            }
        }
    }

    /// Freezes one persistent sandbox that nothing runs in, to make room. False when there is none.
    pub(super) async fn freeze_for_memory(self: &Arc<Self>) -> bool {
        if !self.config.spaces.freeze_on_pressure {
            return false;
        }
        let idle: Vec<Arc<Sandbox>> = {
            let registry = self.registry();
            let wanted = registry
                .all()
                .filter(|sandbox| sandbox.title().terms.persistent && sandbox.runs() == 0);
            wanted.cloned().collect()
        };
        for sandbox in idle {
            if self.freeze(&sandbox, FreezeCause::Memory).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Resumes what a sandbox of this id was frozen to, under the same id. Does nothing when it is there, or never was.
    pub(crate) async fn wake(self: &Arc<Self>, id: SandboxId, tenant: Tenant) {
        for _ in 0..WAKE_TRIES {
            if self.find(id, tenant).is_some() {
                return;
            }
            let Some(space) = self.spaces.of_sandbox(id, tenant) else {
                return;
            };
            let request = ResumeRequest {
                persistent: true,
                ..ResumeRequest::default()
            };
            match self.resume(space, tenant, request, Some(id)).await {
                Ok(_) => return,
                // Somebody else is at it.
                Err(ResumeError::Space(_)) => sleep(WAKE_PAUSE).await,
                Err(error) => {
                    tracing::warn!(sandbox_id = %id, error = %ErrorChain(&error), "a frozen sandbox was not woken");
                    return;
                }
            }
        }
        let why = NoSpace::Busy;
        tracing::warn!(sandbox_id = %id, %why, "a frozen sandbox was not woken");
    }

    /// Looks once, when the start is over, whether the memories that spaces lie over are what they were.
    pub(super) async fn check_bases(host: Weak<Self>) {
        sleep(CHECK_PAUSE).await;
        let Some(spaces) = host.upgrade().map(|host| Arc::clone(&host.spaces)) else {
            return;
        };
        drop(tokio::task::spawn_blocking(move || spaces.check_bases()).await);
    }

    /// Removes spaces that are older than the host keeps them. Never ends.
    pub(super) async fn forget_old_spaces(host: Weak<Self>) {
        loop {
            let Some(host) = host.upgrade() else { return };
            let Some(keep) = host.config.spaces.keep else {
                return;
            };
            let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
            for (space, tenant) in host.spaces.older_than(clock::now_ms().saturating_sub(keep_ms)) {
                tracing::info!(space = %space, "removing a space that is older than spaces are kept");
                host.remove_space(space, tenant).await;
            }
            drop(host);
            sleep(RETENTION_ROUND).await;
        }
    }
}

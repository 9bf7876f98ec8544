//! Keeping the host's disk from filling up: see [`crate::disk`] for when what is done.

use std::sync::{Arc, Weak};
use std::time::Duration;

use agent_proto::{Reply, Request};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::Host;
use crate::agent::{self, AgentError};
use crate::disk::Fullness;
use crate::sandbox::{Message, Sandbox};

/// How long an agent may take to say what room it has. One that is silent is asked again at the next look.
const ASK_BOUND: Duration = Duration::from_secs(5);

/// Agents asked at the same time.
const AT_ONCE: usize = 16;

/// Looks in a row that find it critical before a sandbox ends: what has ended takes a moment to give its room back.
const PATIENCE: u32 = 8;

const MIB: u64 = 1024 * 1024;

impl Host {
    /// Never ends.
    pub(super) async fn guard_disk(host: Weak<Self>) {
        let (mut critical, mut was_low) = (0_u32, false);
        loop {
            let Some(watch) = host.upgrade().map(|host| Arc::clone(&host.disk)) else {
                return;
            };
            let fullness = watch.next_look().await;
            let Some(host) = host.upgrade() else { return };
            critical = if fullness == Fullness::Critical {
                critical + 1
            } else {
                0
            };
            match fullness {
                Fullness::Between => continue,
                Fullness::Well => host.give_disk_back().await,
                Fullness::Low { leave_mib } => host.bound_disks(leave_mib).await,
                Fullness::Critical => host.bound_disks(0).await,
            }
            let is_low = fullness != Fullness::Well;
            if is_low != was_low {
                was_low = is_low;
                say(&host, is_low);
            }
            if critical >= PATIENCE {
                critical = 0;
                host.end_the_one_with_most_disk().await;
            }
        }
    }

    /// Leaves no guest more than this.
    async fn bound_disks(&self, leave_mib: u64) {
        let sandboxes = self.sandboxes_where(|sandbox| sandbox.disk_room.wants(leave_mib));
        for some in sandboxes.chunks(AT_ONCE) {
            join_all(some.iter().map(|sandbox| async move {
                if ask(sandbox, leave_mib.saturating_mul(MIB)).await.is_ok() {
                    sandbox.disk_room.told(leave_mib);
                }
            }))
            .await;
        }
    }

    async fn give_disk_back(&self) {
        let sandboxes = self.sandboxes_where(|sandbox| sandbox.disk_room.is_bounded());
        for some in sandboxes.chunks(AT_ONCE) {
            join_all(some.iter().map(|sandbox| async move {
                if ask(sandbox, u64::MAX).await.is_ok() {
                    sandbox.disk_room.free();
                }
            }))
            .await;
        }
    }

    /// Its guest does not keep to what it was told, or wrote anew what it shared.
    async fn end_the_one_with_most_disk(&self) {
        let sandboxes = self.sandboxes_where(|_| true);
        let mut largest: Option<(u64, Arc<Sandbox>)> = None;
        for some in sandboxes.chunks(AT_ONCE) {
            let stats = join_all(some.iter().map(|sandbox| timeout(ASK_BOUND, sandbox.stats()))).await;
            for (sandbox, stats) in some.iter().zip(stats) {
                let Ok(Some(stats)) = stats else { continue };
                let bytes = stats.disk_layer_bytes;
                if largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
                    largest = Some((bytes, Arc::clone(sandbox)));
                }
            }
        }
        if let Some((bytes, sandbox)) = largest {
            let mib = bytes / MIB;
            let why = format!("the host's disk was full, and this sandbox held the most of it ({mib} MiB)");
            tracing::error!(sandbox_id = %sandbox.id(), mib, "the host's disk is full; ending a sandbox");
            sandbox.tell(Message::Fail(why)).await;
        }
    }

    fn sandboxes_where(&self, wanted: impl Fn(&Sandbox) -> bool) -> Vec<Arc<Sandbox>> {
        let registry = self.registry();
        let ready = |sandbox: &&Arc<Sandbox>| sandbox.phase() == lifecycle::Phase::Ready && wanted(sandbox);
        registry.all().filter(ready).cloned().collect()
    }
}

async fn ask(sandbox: &Sandbox, leave_bytes: u64) -> Result<(), AgentError> {
    let asked = timeout(ASK_BOUND, async {
        let mut connection = match sandbox.warm_connection() {
            Some(warm) => warm,
            None => agent::connect(&sandbox.files.vsock_socket()).await?,
        };
        let reply = connection.ask(&Request::Room { leave_bytes }).await?;
        match reply {
            Reply::Room(room) => {
                tracing::debug!(sandbox_id = %sandbox.id(), leave_bytes, ?room, "room on a sandbox's disk");
                sandbox.keep_connection(connection);
                Ok(())
            }
            Reply::Failed(failure) => Err(AgentError::Failed(failure.message)),
            _ => Err(AgentError::Unexpected { expected: "Room" }),
        }
    });
    asked.await.unwrap_or(Err(AgentError::Silent))
}

fn say(host: &Host, is_low: bool) {
    let Some((space, reserve_mib)) = host.disk.space() else {
        return;
    };
    let free_mib = space.free_mib;
    if is_low {
        tracing::warn!(
            event = crate::events::DISK_LOW,
            free_mib,
            reserve_mib,
            "the disk is nearly full: sandboxes may use only a part of what is left; make room, or delete sandboxes"
        );
    } else {
        tracing::info!(
            event = crate::events::DISK_WELL,
            free_mib,
            reserve_mib,
            "the disk has room again"
        );
    }
}

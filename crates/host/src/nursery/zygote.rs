//! The task that owns the zygote of one template.
//!
//! ```text
//!            ┌────────────── it died, or was killed ──────────────┐
//!            ▼                                                    │
//!  Building: find or build the snapshot, restore the zygote ──▶ Ready: clone on request
//!            ▲   └─ unusable: remove it, build another
//!            │
//!         Failed: say why, wait, longer each time
//! ```
//!
//! While it builds, creations wait; when it has failed, they boot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pod_types::ErrorChain;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::build::{self, BuildError};
use super::snapshots::{Snapshot, SnapshotStore};
use super::{Nursery, Request, key};
use crate::events;
use crate::metrics::{Death, Role};
use crate::storage::Shape;
use crate::vm::{self, Code, Reach, Vm};

/// After a failure: doubles from the first to the last.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A zygote that lived this long did not die of how it was made.
const SOUND_AFTER: Duration = Duration::from_secs(10);

/// How the zygote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Building,
    Ready { pid: u32 },
    Failed(String),
}

pub(super) struct ZygoteOwner {
    pub(super) nursery: Arc<Nursery>,
    pub(super) snapshots: SnapshotStore,
    pub(super) status: watch::Sender<Status>,
    pub(super) asked: mpsc::Receiver<Request>,
}

impl ZygoteOwner {
    /// Never ends.
    pub(super) async fn work(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            let why = match self.bring_forth().await {
                Ok(zygote) => {
                    let born = Instant::now();
                    self.nursery.stats.restored();
                    let pid = zygote.process.pid();
                    self.status.send_replace(Status::Ready { pid });
                    self.nursery.changed.notify_one();
                    let why = self.serve(zygote).await;
                    self.status.send_replace(Status::Building);
                    self.nursery.supplies.tools.reaper.suspect();
                    if born.elapsed() >= SOUND_AFTER {
                        pause = Duration::ZERO;
                    }
                    if pause.is_zero() {
                        tracing::warn!(template = self.name(), why, "the zygote is gone; restoring it");
                        pause = PAUSE_MIN;
                        continue;
                    }
                    format!("the zygote did not live long: {why}")
                }
                Err(error) => ErrorChain(&error).to_string(),
            };
            pause = pause.max(PAUSE_MIN);
            let seconds = pause.as_secs();
            tracing::warn!(
                template = self.name(),
                why,
                "no zygote, sandboxes are booted; trying again in {seconds} s"
            );
            self.status.send_replace(Status::Failed(why));
            self.refuse_for(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            self.status.send_replace(Status::Building);
        }
    }

    /// Finds or builds the snapshot and restores the zygote.
    async fn bring_forth(&self) -> Result<Vm, BuildError> {
        let key = self.key().await?;
        let store = self.snapshots.clone();
        let wanted = key.clone();
        let found = blocking(move || store.find(&wanted)).await?;
        if let Some(snapshot) = found {
            match self.restore(&snapshot).await {
                Err(error) if error.is_unusable() => {
                    tracing::warn!(
                        template = self.name(),
                        error = %ErrorChain(&error),
                        "the template's snapshot cannot be used here; making another"
                    );
                    blocking(move || SnapshotStore::remove(&snapshot)).await?;
                }
                other => return other,
            }
        }
        let snapshot = self.build(&key).await?;
        self.restore(&snapshot).await
    }

    async fn build(&self, key: &str) -> Result<Snapshot, BuildError> {
        let supplies = &self.nursery.supplies;
        // The semaphore is never closed.
        let _turn = supplies.builds.acquire().await;
        let started = Instant::now();
        let (store, wanted) = (self.snapshots.clone(), key.to_owned());
        let new = blocking(move || store.begin(&wanted)).await?;
        build::snapshot(supplies, &new).await?;
        let (store, wanted) = (self.snapshots.clone(), key.to_owned());
        let snapshot = blocking(move || store.finish(&wanted, &new)).await?;
        let milliseconds = started.elapsed().as_millis();
        tracing::info!(
            event = events::SNAPSHOT_MADE,
            template = self.name(),
            milliseconds,
            "the template's snapshot is made"
        );
        Ok(snapshot)
    }

    async fn restore(&self, snapshot: &Snapshot) -> Result<Vm, BuildError> {
        let started = Instant::now();
        let supplies = &self.nursery.supplies;
        let working_set = snapshot.recorded_working_set().filter(|_| supplies.working_sets);
        let zygote = build::restore(supplies, snapshot, working_set, Code::User).await?;
        self.keep_memory(snapshot).await;
        let milliseconds = started.elapsed().as_millis();
        tracing::info!(
            event = events::ZYGOTE_READY,
            template = self.name(),
            milliseconds,
            pid = zygote.process.pid(),
            "the template's zygote is ready"
        );
        Ok(zygote)
    }

    /// What is frozen of its clones will lie over this memory. Without it they are frozen whole.
    async fn keep_memory(&self, snapshot: &Snapshot) {
        let (spaces, kept) = (Arc::clone(&self.nursery.supplies.spaces), snapshot.clone());
        let linked =
            blocking(move || spaces.keep_template(&kept.vm(), kept.recorded_working_set().as_deref()));
        match linked.await {
            // Beside everything else: nobody waits for it.
            Ok(memory) => drop(tokio::task::spawn_blocking(move || {
                if let Err(error) = memory.sum() {
                    tracing::warn!(%error, "a template's memory cannot be summed, and will not be checked");
                }
            })),
            Err(error) => tracing::warn!(
                template = self.name(),
                error = %ErrorChain(&error),
                "the template's memory is not kept for spaces"
            ),
        }
    }

    /// Clones for as long as the zygote lives; says how it ended.
    async fn serve(&mut self, mut zygote: Vm) -> String {
        let pid = zygote.process.pid();
        loop {
            let Vm { process, control, .. } = &mut zygote;
            tokio::select! {
                biased;
                request = self.asked.recv() => {
                    let Some(Request { order, reply }) = request else {
                        return "nobody needs it any more".to_owned();
                    };
                    if reply.is_closed() {
                        continue;
                    }
                    let tools = &self.nursery.supplies.tools;
                    let brood = vm::clone_vm(control, pid, (order, Reach::Nothing), &tools.homes, &*tools.spawner).await;
                    let fatal = brood.as_ref().err().filter(|error| error.is_fatal());
                    let fatal = fatal.map(|error| ErrorChain(error).to_string());
                    // First, so that whoever asks again waits for the next one.
                    if fatal.is_some() {
                        self.status.send_replace(Status::Building);
                    }
                    drop(reply.send(brood));
                    if let Some(why) = fatal {
                        zygote.end().await;
                        self.died(Death::Internal);
                        return why;
                    }
                }
                report = control.ended() => return match report {
                    Ok(report) => {
                        self.died(Death::of(&report.cause));
                        vm::describe(&report.cause)
                    }
                    Err(_) => {
                        self.died(Death::Crash);
                        format!("its process {}", process.exited().await)
                    }
                },
                how = process.exited() => {
                    let (death, why) = control.last_word(&how).await;
                    self.died(death);
                    return why;
                }
            }
        }
    }

    /// Refuses what is asked meanwhile: whoever asked before the failure shall not wait for its end.
    async fn refuse_for(&mut self, pause: Duration) {
        let over = sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                request = self.asked.recv() => if request.is_none() {
                    return;
                },
            }
        }
    }

    async fn key(&self) -> Result<String, BuildError> {
        let supplies = &self.nursery.supplies;
        let (template, shape): (_, Shape) = (supplies.template.clone(), supplies.shape);
        let program = supplies.tools.spawner.program();
        blocking(move || key::key(&template, shape, program.as_deref())).await
    }

    fn died(&self, death: Death) {
        let metrics = &self.nursery.supplies.tools.metrics;
        metrics.vms.died(Role::Zygote, death);
    }

    fn name(&self) -> &str {
        &self.nursery.supplies.template.name
    }
}

/// File system work beside the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, BuildError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)
        .and_then(|result| result)
        .map_err(BuildError::Files)
}

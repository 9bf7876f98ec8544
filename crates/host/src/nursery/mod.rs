//! Where new VMs come from when they need not be booted: for each template a snapshot, a *zygote* restored from it that
//! never runs and is cloned, and a pool of clones that wait to be handed out.
//!
//! ```text
//!  sources ──boot──▶ snapshot on disk ──restore──▶ zygote ──clone──▶ identity ──▶ handed out (a miss)
//!             └─ once, kept by content key           │                  │
//!                                                    └──▶ one run, paused, in the pool ──wake──▶ handed out (a hit)
//! ```
//!
//! One [task](zygote) owns the zygote of each template: it builds the snapshot when there is none that is usable,
//! restores the zygote, and restores it again when it dies. Another [task](keeper) does what the pool's policy in
//! `lifecycle` says. Nothing here is needed for a sandbox to come to be: where there is no zygote, VMs are booted.

mod build;
mod keeper;
mod key;
mod newborn;
mod snapshots;
mod stats;
mod zygote;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{PoolCapacity, PoolState};
use pod_types::ErrorChain;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::agent::Clock;
use crate::budget::{Budget, Reservation};
use crate::clock;
use crate::events;
use crate::host::{Activity, Background};
use crate::memory::MemoryWatch;
use crate::sandbox::Tools;
use crate::spaces::Spaces;
use crate::storage::{Shape, Template};
use crate::vm::{Brood, CloneError, Order};

use keeper::Shelf;
use snapshots::SnapshotStore;
use stats::Stats;
use zygote::{Status, ZygoteOwner};

pub(crate) use newborn::{Newborn, RaiseError, raise, raise_as};
pub(crate) use stats::nothing;

/// Clones that may be asked of one zygote at once; further creations wait for their turn.
const REQUESTS: usize = 64;

/// How often a creation asks again when the zygote dies under it.
const TRIES: u32 = 3;

/// What a clone counts for until one was measured, in MiB.
const FIRST_ESTIMATE_MIB: u32 = 64;

/// Everything a nursery works with.
pub(crate) struct Supplies {
    pub(crate) template: Template,
    pub(crate) shape: Shape,
    pub(crate) pool_size: u32,
    pub(crate) refills_at_once: u32,
    pub(crate) working_sets: bool,
    pub(crate) snapshots: std::path::PathBuf,
    pub(crate) spaces: Arc<Spaces>,
    pub(crate) boot_deadline: Duration,
    /// How long a creation waits for a snapshot that is being made.
    pub(crate) patience: Duration,
    pub(crate) tools: Tools,
    pub(crate) budget: Arc<Budget>,
    pub(crate) memory: Arc<MemoryWatch>,
    pub(crate) boots: Arc<Semaphore>,
    /// Only one snapshot is made at a time.
    pub(crate) builds: Arc<Semaphore>,
    pub(crate) activity: Arc<Activity>,
}

/// VMs of one template and of its ordinary shape.
pub(crate) struct Nursery {
    supplies: Supplies,
    status: watch::Receiver<Status>,
    requests: mpsc::Sender<Request>,
    shelf: Mutex<Shelf>,
    /// The keeper has something to look at.
    changed: Notify,
    stats: Stats,
    estimate_mib: AtomicU32,
}

/// A question to the owner of the zygote.
struct Request {
    order: Order,
    reply: oneshot::Sender<Result<Brood, CloneError>>,
}

/// Why there is no clone of a template; it can be booted.
#[derive(Debug, Error)]
pub(crate) enum MakeError {
    #[error("there is no snapshot of the template: {0}")]
    Failed(String),
    #[error("the template's snapshot was not ready within {} s", .0.as_secs())]
    NotYet(Duration),
    #[error("the template's zygote is gone")]
    Lost,
    #[error("the template's zygote was not cloned")]
    Clone(#[source] CloneError),
    #[error("a clone of the template is of no use")]
    Raise(#[source] RaiseError),
}

impl Nursery {
    /// Begins to make ready. Nothing is waited for.
    pub(crate) fn open(supplies: Supplies, background: &Background) -> Arc<Self> {
        let (requests, asked) = mpsc::channel(REQUESTS);
        let (tell, status) = watch::channel(Status::Building);
        let nursery = Arc::new(Self {
            shelf: Mutex::new(Shelf::new(supplies.pool_size, supplies.refills_at_once)),
            changed: Notify::new(),
            stats: Stats::default(),
            estimate_mib: AtomicU32::new(FIRST_ESTIMATE_MIB.min(supplies.shape.ram_mib)),
            supplies,
            status,
            requests,
        });
        let owner = ZygoteOwner {
            nursery: Arc::clone(&nursery),
            snapshots: SnapshotStore::new(&nursery.supplies.snapshots, &nursery.supplies.template.name),
            status: tell,
            asked,
        };
        background.spawn(owner.work());
        background.spawn(keeper::work(Arc::clone(&nursery), background.clone()));
        nursery
    }

    pub(crate) fn shape(&self) -> Shape {
        self.supplies.shape
    }

    /// What one more VM counts for, in MiB.
    pub(crate) fn estimate_mib(&self) -> u64 {
        self.estimate_mib.load(Ordering::Relaxed).into()
    }

    /// A VM from the pool, awake. One that has died there is passed over.
    pub(crate) async fn take(&self) -> Option<Newborn> {
        loop {
            let waiting = self.shelf().take()?;
            self.changed.notify_one();
            match waiting.wake().await {
                Ok(newborn) => {
                    self.stats.hit();
                    return Some(newborn);
                }
                Err(error) => {
                    tracing::warn!(
                        template = self.supplies.template.name,
                        error = %ErrorChain(&error),
                        "a VM from the pool does not wake up"
                    );
                }
            }
        }
    }

    /// A VM cloned now. Waits for the zygote when it is being made ready.
    pub(crate) async fn make(&self, reservation: Reservation) -> Result<Newborn, MakeError> {
        let deadline = Instant::now() + self.supplies.patience;
        let mut tries = 0;
        let mut born_ms;
        let vm = loop {
            self.ready(deadline).await?;
            tries += 1;
            born_ms = clock::now_ms();
            match self.ask(Order { count: 1, run: true }).await {
                Ok(mut brood) => {
                    if let Some(vm) = brood.vms.pop() {
                        break vm;
                    }
                }
                // The zygote is being restored, which is waited for like its beginning.
                Err(MakeError::Lost | MakeError::Clone(_)) if tries < TRIES => {}
                Err(error) => return Err(error),
            }
        };
        let (id, vm, connection) = raise(vm, Clock::WasSet, 1).await.map_err(MakeError::Raise)?;
        tracing::info!(
            event = events::CLONE_READY,
            template = self.supplies.template.name,
            sandbox_id = %id,
            pid = vm.process.pid(),
            "a clone is ready that the pool did not have"
        );
        Ok(Newborn {
            id,
            vm,
            connection,
            reservation,
            born_ms,
        })
    }

    /// Counts a creation that the pool did not serve, and how long it took.
    pub(crate) fn missed(&self, took: Duration) {
        self.stats.miss(took);
    }

    /// Ends one VM of the pool to make room. False when there is none.
    pub(crate) fn squeeze(&self) -> bool {
        let dropped = self.shelf().take_oldest();
        dropped.is_some()
    }

    pub(crate) fn capacity(&self) -> PoolCapacity {
        let (state, zygote_pid, last_error) = match &*self.status.borrow() {
            Status::Building => (PoolState::Building, None, None),
            Status::Ready { pid } => (PoolState::Ready, Some(*pid), None),
            Status::Failed(why) => (PoolState::Failed, None, Some(why.clone())),
        };
        let (size, target, filling) = self.shelf().sizes();
        self.stats.show(PoolCapacity {
            template: self.supplies.template.name.clone(),
            state,
            last_error,
            zygote_pid,
            size,
            target,
            filling,
            clone_mib: self.estimate_mib.load(Ordering::Relaxed),
            ..nothing()
        })
    }

    /// Waits until there is a zygote.
    async fn ready(&self, deadline: Instant) -> Result<(), MakeError> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|status| !matches!(status, Status::Building));
        match tokio::time::timeout_at(deadline, settled).await {
            Err(_) => Err(MakeError::NotYet(self.supplies.patience)),
            Ok(Err(_)) => Err(MakeError::Lost),
            Ok(Ok(status)) => match &*status {
                Status::Failed(why) => Err(MakeError::Failed(why.clone())),
                Status::Building | Status::Ready { .. } => Ok(()),
            },
        }
    }

    /// Has the zygote make clones.
    async fn ask(&self, order: Order) -> Result<Brood, MakeError> {
        let (reply, made) = oneshot::channel();
        let sent = self.requests.send(Request { order, reply }).await;
        sent.map_err(|_| MakeError::Lost)?;
        made.await.map_err(|_| MakeError::Lost)?.map_err(MakeError::Clone)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ready(&self) -> bool {
        matches!(*self.status.borrow(), Status::Ready { .. })
    }

    /// Waits for the next change, at most so long.
    async fn nudged(&self, at_most: Duration) {
        drop(timeout(at_most, self.changed.notified()).await);
    }
}

impl fmt::Debug for Nursery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nursery")
            .field("template", &self.supplies.template.name)
            .finish_non_exhaustive()
    }
}

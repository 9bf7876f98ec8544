//! Doing what the pool's policy says, while nobody waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_proto::Language;
use lifecycle::{Circumstances, Pool, Room, Step};
use pod_types::ErrorChain;

use super::newborn::{Newborn, RaiseError, Waiting, raise, warm};
use super::{MakeError, Nursery};
use crate::agent::Clock;
use crate::budget::OverBudget;
use crate::clock;
use crate::events;
use crate::host::{Background, Marks};
use crate::memory::private_mib;
use crate::metrics::{Death, Failing, Operation, Role};
use crate::vm::Order;

/// When nothing happens: how often memory is looked at, and whether the pool's VMs are still alive.
const ROUND: Duration = Duration::from_secs(1);

/// How often the log says how the pool does.
const REPORT: Duration = Duration::from_secs(60);

/// Giving way to a request, this often it is looked whether it is over.
const GLANCE: Duration = Duration::from_millis(10);

/// A clone's memory is measured now and then: walking its page tables takes milliseconds.
const MEASURE_EVERY: u64 = 16;

/// Of what a clone was measured to have of its own when it had answered once, it counts for one and a half times plus
/// this, in MiB: its kernel structures, and some growth.
const ESTIMATE_EXTRA_MIB: u64 = 12;

/// The VMs that wait, with the policy over them.
pub(super) struct Shelf {
    policy: Pool<u64>,
    waiting: HashMap<u64, Waiting>,
}

/// Why a VM was not made for the pool.
#[derive(Debug, thiserror::Error)]
enum RefillError {
    #[error("there is no room: {} of {} MiB are in use", .0.used_mib, .0.total_mib)]
    NoRoom(OverBudget),
    #[error("there was no clone")]
    Make(#[source] MakeError),
    #[error("it could not be warmed and paused")]
    Raise(#[source] RaiseError),
}

impl Shelf {
    pub(super) fn new(size: u32, refills_at_once: u32) -> Self {
        Self {
            policy: Pool::new(size, refills_at_once),
            waiting: HashMap::new(),
        }
    }

    pub(super) fn take(&mut self) -> Option<Waiting> {
        let key = self.policy.take()?;
        self.waiting.remove(&key)
    }

    /// The one that has waited longest. Dropping it ends it.
    pub(super) fn take_oldest(&mut self) -> Option<Waiting> {
        let oldest = *self.waiting.keys().min()?;
        self.policy.lost(oldest);
        self.waiting.remove(&oldest)
    }

    /// How many wait, how many should, and how many are being made.
    pub(super) fn sizes(&self) -> (u32, u32, u32) {
        let small = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (
            small(self.policy.ready()),
            small(self.policy.target()),
            small(self.policy.filling()),
        )
    }

    /// Takes out VMs that have died while they waited, and gives their processes' numbers.
    fn sweep(&mut self) -> Vec<u32> {
        let dead: Vec<u64> = self
            .waiting
            .iter_mut()
            .filter_map(|(key, waiting)| (!waiting.is_alive()).then_some(*key))
            .collect();
        let dead = dead.into_iter().filter_map(|key| {
            self.policy.lost(key);
            self.waiting.remove(&key)
        });
        dead.map(|waiting| waiting.pid()).collect()
    }

    fn put(&mut self, key: u64, waiting: Waiting) {
        self.policy.filled(key);
        self.waiting.insert(key, waiting);
    }
}

/// Never ends.
pub(super) async fn work(nursery: Arc<Nursery>, background: Background) {
    let (mut swept, mut reported) = (Instant::now(), Instant::now());
    loop {
        if reported.elapsed() >= REPORT {
            report(&nursery);
            reported = Instant::now();
        }
        if !nursery.is_ready() {
            nursery.nudged(ROUND).await;
            continue;
        }
        if swept.elapsed() >= ROUND {
            for pid in nursery.shelf().sweep() {
                let template = nursery.supplies.template.name.as_str();
                tracing::warn!(template, pid, "a VM has died in the pool");
                let vms = &nursery.supplies.tools.metrics.vms;
                vms.died(Role::Pool, Death::Crash);
            }
            swept = Instant::now();
        }
        let circumstances = Circumstances {
            now: nursery.supplies.activity.now(),
            room: room(&nursery),
            busy: nursery.supplies.activity.is_busy(),
        };
        let step = nursery.shelf().policy.next(circumstances);
        match step {
            Step::Fill => {
                let nursery = Arc::clone(&nursery);
                background.spawn(async move { fill(&nursery).await });
            }
            Step::Drop(key) => {
                let dropped = nursery.shelf().waiting.remove(&key);
                drop(dropped);
            }
            Step::Wait(time) if circumstances.busy => nursery.nudged(time.min(GLANCE)).await,
            Step::Wait(time) => nursery.nudged(time.min(ROUND)).await,
            Step::Rest => nursery.nudged(ROUND).await,
        }
    }
}

fn report(nursery: &Nursery) {
    let pool = nursery.capacity();
    tracing::info!(
        event = events::POOL,
        template = pool.template,
        size = pool.size,
        target = pool.target,
        hits = pool.hits,
        misses = pool.misses,
        pool_hit_rate_bp = pool.pool_hit_rate_bp,
        on_demand_boot_ms_mean = pool.on_demand_boot_ms_mean,
        refills = pool.refill_ms.count,
        "pool"
    );
}

/// The less of what the host has and what sandboxes may have.
fn room(nursery: &Nursery) -> Room {
    let supplies = &nursery.supplies;
    let one_more = nursery.estimate_mib();
    let budget_left = supplies
        .budget
        .total_mib()
        .saturating_sub(supplies.budget.used_mib());
    match supplies.memory.room(one_more) {
        // The budget says no to new ones; it takes nothing away.
        Room::Ample if budget_left < one_more => Room::Tight,
        other => other,
    }
}

async fn fill(nursery: &Arc<Nursery>) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let started = Instant::now();
    match refill(nursery).await {
        Ok(waiting) => {
            let took = started.elapsed();
            nursery.stats.refilled(took);
            let births = &nursery.supplies.tools.metrics.births;
            births.refilled(&nursery.supplies.template.name, took);
            let (key, pid) = (NEXT.fetch_add(1, Ordering::Relaxed), waiting.pid());
            nursery.shelf().put(key, waiting);
            if key.is_multiple_of(MEASURE_EVERY) {
                measure(nursery, pid).await;
            }
        }
        Err(error) => {
            tracing::warn!(
                template = nursery.supplies.template.name,
                error = %ErrorChain(&error),
                "the pool was not refilled"
            );
            let failing = match error {
                RefillError::NoRoom(_) => Failing::NoRoom,
                RefillError::Make(_) | RefillError::Raise(_) => Failing::Vm,
            };
            let births = &nursery.supplies.tools.metrics.births;
            births.failed(Operation::Refill, failing);
            let now = nursery.supplies.activity.now();
            nursery.shelf().policy.fill_failed(now);
        }
    }
    nursery.changed.notify_one();
}

async fn refill(nursery: &Nursery) -> Result<Waiting, RefillError> {
    let supplies = &nursery.supplies;
    let reserved = supplies.budget.take_now(nursery.estimate_mib());
    let reservation = reserved.map_err(RefillError::NoRoom)?;
    let born_ms = clock::now_ms();
    let mut marks = Marks::begin();
    let brood = nursery.ask(Order { count: 1, run: true }).await;
    let vm = brood.map_err(RefillError::Make)?.vms.pop();
    let vm = vm.ok_or(RefillError::Make(MakeError::Lost))?;
    marks.mark("clone");
    let (id, vm, mut connection) = raise(vm, Clock::WasSet, 1).await.map_err(RefillError::Raise)?;
    marks.mark("identity");
    warm(&mut connection, Language::Python, supplies.template.warm_code())
        .await
        .map_err(RefillError::Raise)?;
    marks.mark("warm");
    let newborn = Newborn {
        id,
        vm,
        connection,
        reservation,
        born_ms,
    };
    let waiting = Waiting::new(newborn).await.map_err(RefillError::Raise)?;
    marks.mark("pause");
    let births = &supplies.tools.metrics.births;
    births.stages(Operation::Refill, marks.spans());
    tracing::debug!(
        event = events::CLONE_READY,
        template = supplies.template.name,
        pid = waiting.pid(),
        timing = marks.header(),
        "a clone waits in the pool"
    );
    Ok(waiting)
}

/// Learns what a clone needs for itself.
async fn measure(nursery: &Nursery, pid: u32) {
    let measured = tokio::task::spawn_blocking(move || private_mib(pid)).await;
    let Ok(Some(private_mib)) = measured else {
        return;
    };
    let estimate = private_mib + private_mib / 2 + ESTIMATE_EXTRA_MIB;
    let estimate = u32::try_from(estimate)
        .unwrap_or(u32::MAX)
        .min(nursery.shape().ram_mib);
    tracing::debug!(
        template = nursery.supplies.template.name,
        private_mib,
        estimate_mib = estimate,
        "a clone was measured"
    );
    nursery.estimate_mib.store(estimate, Ordering::Relaxed);
}

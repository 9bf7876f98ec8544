//! All sandboxes of this host: who exists, who may, and the end of all of them.

mod activity;
mod creation;
mod forking;
mod marks;
mod registry;
mod room;
mod turns;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::{Capacity, MemoryCapacity, PoolCapacity, RunCapacity, SandboxCounts, SandboxInfo, SandboxState};
use lifecycle::EndReason;
use pod_types::SandboxId;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Auth, AuthConfigError, Tenant};
use crate::budget::Budget;
use crate::config::{HostConfig, Pools};
use crate::memory::MemoryWatch;
use crate::metrics::{HostState, Metrics, measure_lag};
use crate::nursery::{self, Nursery, Supplies};
use crate::sandbox::{Message, Sandbox, Tools};
use crate::storage::{self, DataDir, DataDirError, Reaper, Shape};
use crate::store::{Store, StoreOpenError};
use crate::tenants::{Account, Tenants};
use crate::vm::{Homes, Roster, VmmSpawner};

use registry::Registry;
use usage::UsageCache;

pub(crate) use activity::Activity;
pub(crate) use creation::CreateRefused;
pub(crate) use forking::ForkError;
pub(crate) use marks::Marks;
pub(crate) use registry::MergeError;
pub(crate) use room::NoRoom;

use turns::Turns;

/// How long all VMs together may take to end at shutdown.
const END_BOUND: Duration = Duration::from_secs(20);
const END_PAUSE: Duration = Duration::from_millis(5);

pub struct Host {
    config: HostConfig,
    auth: Auth,
    tenants: Arc<Tenants>,
    turns: Turns,
    data: DataDir,
    pub(crate) tools: Tools,
    registry: Mutex<Registry>,
    budget: Arc<Budget>,
    memory: Arc<MemoryWatch>,
    /// By the name of the template; empty when every sandbox is booted.
    nurseries: BTreeMap<String, Arc<Nursery>>,
    boots: Arc<Semaphore>,
    activity: Arc<Activity>,
    owners: TaskTracker,
    background: Background,
    vms_made: AtomicU64,
    stopping: AtomicBool,
    usage: UsageCache,
}

/// Tasks that nobody waits for. They end where they stand at shutdown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Error)]
pub enum OpenError {
    #[error("cannot use the data directory")]
    DataDir(#[source] DataDirError),
    #[error("cannot open the database of tenants and keys")]
    Store(#[source] StoreOpenError),
    #[error("cannot read the database of tenants and keys")]
    Tenants(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("refusing to start")]
    Auth(#[source] AuthConfigError),
}

/// What a shutdown found.
#[derive(Debug)]
pub struct ShutdownReport {
    /// Sandboxes that were ended.
    pub sandboxes: usize,
    /// Runs that were still in progress after the grace period.
    pub runs_cut: u32,
    /// VM processes that were left after all were ended; empty unless something is broken. They have been killed.
    pub processes_left: Vec<u32>,
}

impl Host {
    /// Takes the data directory, clears what a daemon that died has left in it, and begins to work. To be called
    /// within a runtime.
    ///
    /// # Errors
    /// The directory cannot be used, or belongs to another daemon.
    pub fn open(config: HostConfig, spawner: Arc<dyn VmmSpawner>) -> Result<Arc<Self>, OpenError> {
        let data = DataDir::open(&config.data_dir).map_err(OpenError::DataDir)?;
        let store = Store::open(data.database()).map_err(OpenError::Store)?;
        let tenants = Tenants::open(store, config.tenants.clone(), &config.auth)
            .map_err(|error| OpenError::Tenants(error.into()))?;
        let auth = Auth::new(&config.auth, config.address, tenants.valid_keys()).map_err(OpenError::Auth)?;
        let roster = Roster::default();
        let tools = Tools {
            spawner,
            homes: Homes::new(data.vms().to_owned(), roster.clone()),
            reaper: Reaper::default(),
            metrics: Arc::new(Metrics::new(config.templates.names())),
        };
        let background = Background::default();
        let metrics = Arc::clone(&tools.metrics);
        background.spawn(measure_lag(Arc::downgrade(&metrics)));
        let reaper = tools.reaper.clone();
        background.spawn(reaper.work(data.vms().to_owned(), roster, metrics));
        background.spawn(Arc::clone(&tools.homes).keep_stocked());
        let mut host = Self {
            turns: Turns::new(&config),
            auth,
            tenants,
            budget: Budget::new(config.memory.budget_mib),
            memory: MemoryWatch::new(config.memory.probe, config.memory.floor_mib),
            nurseries: BTreeMap::new(),
            boots: Arc::new(Semaphore::new(config.boots_at_once.max(1) as usize)),
            config,
            data,
            tools,
            registry: Mutex::default(),
            activity: Arc::default(),
            owners: TaskTracker::new(),
            background,
            vms_made: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            usage: UsageCache::default(),
        };
        host.open_nurseries();
        let host = Arc::new(host);
        host.background.spawn(Self::guard_memory(Arc::downgrade(&host)));
        Ok(host)
    }

    /// Begins to make snapshots and fill pools, the default template's first.
    fn open_nurseries(&mut self) {
        let Pools { snapshots: true, .. } = self.config.pools else {
            return;
        };
        let builds = Arc::new(Semaphore::new(1));
        let templates = &self.config.templates;
        let mut order: Vec<_> = templates.iter().collect();
        order.sort_by_key(|template| !templates.is_default(template));
        for template in order {
            let is_default = templates.is_default(template);
            let pools = &self.config.pools;
            let supplies = Supplies {
                template: template.clone(),
                shape: Shape {
                    vcpus: self.config.vcpus,
                    ram_mib: self.config.ram_mib,
                    rootfs_gb: template.rootfs_gb(),
                },
                pool_size: pools.size(&template.name, is_default, self.config.memory.budget_mib),
                refills_at_once: pools.refills_at_once,
                snapshots: self.data.snapshots().to_owned(),
                boot_deadline: self.config.timing.boot_deadline,
                patience: self.config.timing.snapshot_patience,
                tools: self.tools.clone(),
                budget: Arc::clone(&self.budget),
                memory: Arc::clone(&self.memory),
                boots: Arc::clone(&self.boots),
                builds: Arc::clone(&builds),
                activity: Arc::clone(&self.activity),
            };
            let nursery = Nursery::open(supplies, &self.background);
            self.nurseries.insert(template.name.clone(), nursery);
        }
    }

    pub(crate) fn config(&self) -> &HostConfig {
        &self.config
    }

    /// Who may call.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(crate) fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.tools.metrics
    }

    /// What is at this moment, for the metrics.
    pub(crate) fn state(&self) -> HostState {
        HostState {
            capacity: self.capacity(None),
            pressure: self.memory.is_critical(),
            doomed_homes: self.tools.homes.doomed(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64,
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// A tenant's sandbox; another tenant's is as unknown as one that never was.
    pub(crate) fn find(&self, id: SandboxId, tenant: Tenant) -> Option<Arc<Sandbox>> {
        self.registry().find(id, tenant).cloned()
    }

    pub(crate) fn describe(&self, sandbox: &Sandbox) -> SandboxInfo {
        self.registry().describe(sandbox)
    }

    /// A tenant's sandboxes, oldest first.
    pub(crate) fn list(&self, tenant: Tenant) -> Vec<SandboxInfo> {
        let registry = self.registry();
        let mut list: Vec<_> = registry
            .all()
            .filter(|sandbox| tenant.may_see(sandbox.tenant))
            .map(|sandbox| registry.describe(sandbox))
            .collect();
        drop(registry);
        list.sort_by_key(|sandbox| (sandbox.created_at_ms, sandbox.id));
        list
    }

    /// Somebody waits for an answer.
    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        self.activity.is_busy()
    }

    /// Ends a tenant's sandbox. It is unknown from now on; its VM ends in the background.
    pub(crate) async fn delete(&self, id: SandboxId, tenant: Tenant) {
        let removed = self.registry().remove(id, tenant);
        if let Some(sandbox) = removed {
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

    /// What the host has left. Sandboxes and runs are counted of one tenant, or of all for the operator.
    pub(crate) fn capacity(&self, of: Option<&Account>) -> Capacity {
        let mut sandboxes = SandboxCounts::default();
        let counts = |sandbox: &&Arc<Sandbox>| of.is_none_or(|of| of.tenant() == sandbox.tenant);
        for sandbox in self.registry().all().filter(counts) {
            match sandbox.info().state {
                SandboxState::Booting => sandboxes.booting += 1,
                SandboxState::Ready => sandboxes.ready += 1,
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

    /// Refuses new work, lets runs end within the grace period, then ends every sandbox. `hurry` cuts the grace short.
    pub async fn shutdown(&self, hurry: impl Future<Output = ()>) -> ShutdownReport {
        self.stopping.store(true, Ordering::Relaxed);
        self.background.stop.cancel();
        let grace = timeout(self.config.timing.shutdown_grace, self.activity.quiet());
        tokio::select! {
            _ = grace => {}
            () = hurry => {}
        }
        let runs_cut = self.activity.runs();
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
        let mut processes_left = storage::vm_processes(self.data.vms());
        while !processes_left.is_empty() && Instant::now() < deadline {
            sleep(END_PAUSE).await;
            processes_left = storage::vm_processes(self.data.vms());
        }
        self.tenants.close().await;
        if !processes_left.is_empty() {
            tracing::error!(pids = ?processes_left, "VM processes are left after shutdown; ending them");
            drop(storage::clear(self.data.vms()));
        }
        ShutdownReport {
            sandboxes: sandboxes.len(),
            runs_cut,
            processes_left,
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Background {
    /// Runs until it ends by itself or the host stops.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

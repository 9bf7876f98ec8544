//! All sandboxes of this host: who exists, who may, and the end of all of them.

mod activity;
mod adoption;
mod capacity;
mod checkpoint_adoption;
mod checkpointing;
mod creation;
mod disk_room;
mod ending;
mod expiry;
mod forking;
mod freezing;
mod handover;
mod headroom;
mod importing;
mod keeping;
mod marks;
mod network;
mod registry;
mod resuming;
mod room;
mod secrets;
mod turns;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::SandboxInfo;
use pod_types::{ErrorChain, SandboxId};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Auth, AuthConfigError, Tenant};
use crate::budget::Budget;
use crate::config::{HostConfig, Pools};
use crate::disk::{DiskWatch, Fullness};
use crate::happenings::{Happening, Happenings};
use crate::lifetimes::{Obituaries, Scheduler, Uptime};
use crate::memory::MemoryWatch;
use crate::metrics::{HostState, Metrics, measure_lag};
use crate::network::{Network, Wires};
use crate::nursery::{Nursery, Supplies};
use crate::ports::ShareKey;
use crate::sandbox::{Sandbox, Tools};
use crate::secrets::Secrets;
use crate::spaces::Spaces;
use crate::storage::{DataDir, DataDirError, Reaper, Shape};
use crate::store::{Store, StoreOpenError};
use crate::tenants::Tenants;
use crate::vm::{Cgroups, Homes, Roster, Standby, VmmSpawner};
use crate::webhooks::Webhooks;

use adoption::Findings;
use registry::Registry;
use usage::UsageCache;

pub(crate) use activity::Activity;
pub use adoption::TakenOver;
pub(crate) use checkpointing::CheckpointError;
pub(crate) use creation::CreateRefused;
pub use ending::ShutdownReport;
pub(crate) use expiry::ChangeRefused;
pub(crate) use forking::ForkError;
pub(crate) use freezing::FreezeError;
pub(crate) use importing::{ExportError, ImportError, PIECES};
pub(crate) use marks::Marks;
pub(crate) use registry::MergeError;
pub(crate) use resuming::ResumeError;
pub(crate) use room::NoRoom;
pub(crate) use secrets::ChangeSecretError;

use turns::Turns;

pub struct Host {
    config: HostConfig,
    auth: Auth,
    tenants: Arc<Tenants>,
    webhooks: Arc<Webhooks>,
    secrets: Arc<Secrets>,
    turns: Turns,
    data: DataDir,
    spaces: Arc<Spaces>,
    share_key: ShareKey,
    pub(crate) tools: Tools,
    pub(crate) network: Network,
    registry: Mutex<Registry>,
    budget: Arc<Budget>,
    memory: Arc<MemoryWatch>,
    disk: Arc<DiskWatch>,
    /// By the name of the template; empty when every sandbox is booted.
    nurseries: BTreeMap<String, Arc<Nursery>>,
    boots: Arc<Semaphore>,
    activity: Arc<Activity>,
    pub(crate) scheduler: Arc<Scheduler<Sandbox>>,
    obituaries: Obituaries,
    owners: TaskTracker,
    background: Background,
    vms_made: AtomicU64,
    /// What a daemon before this one has left, until it is taken over.
    found: Mutex<Findings>,
    stopping: AtomicBool,
    usage: UsageCache,
    /// Why VM processes have no limits of their own.
    unlimited: Option<String>,
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
    #[error("cannot use the directory of frozen sandboxes")]
    Spaces(#[source] std::io::Error),
    #[error("cannot use the key for URLs of ports, ports.key in the data directory")]
    ShareKey(#[source] std::io::Error),
    #[error("cannot open the database of tenants and keys")]
    Store(#[source] StoreOpenError),
    #[error("cannot read the database of tenants and keys")]
    Tenants(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot read the webhooks")]
    Webhooks(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot use the secrets of tenants")]
    Secrets(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("refusing to start")]
    Auth(#[source] AuthConfigError),
}

impl Host {
    /// Takes the data directory, ends what a daemon before this one has left and nobody can use, and begins to work. The
    /// sandboxes that were left are there after [`Self::take_over`]. To be called within a runtime.
    ///
    /// # Errors
    /// The directory cannot be used, or belongs to another daemon.
    pub fn open(config: HostConfig, spawner: Arc<dyn VmmSpawner>) -> Result<Arc<Self>, OpenError> {
        let data = DataDir::open(&config.data_dir).map_err(OpenError::DataDir)?;
        // What is to be taken over is on the roster before anybody looks for what belongs to nobody.
        let roster = Roster::default();
        let share_key = ShareKey::open(data.share_key()).map_err(OpenError::ShareKey)?;
        let spaces = Spaces::open(data.spaces()).map_err(OpenError::Spaces)?;
        let found = Findings::look(&data, &*spawner, &roster, &spaces).map_err(OpenError::DataDir)?;
        let is_there = |sandbox| found.has(sandbox);
        spaces.settle(is_there).map_err(OpenError::Spaces)?;
        let store = Store::open(data.database()).map_err(OpenError::Store)?;
        let tenants = Tenants::open(store.clone(), config.tenants.clone(), &config.auth)
            .map_err(|error| OpenError::Tenants(error.into()))?;
        let auth = Auth::new(&config.auth, config.address, tenants.valid_keys()).map_err(OpenError::Auth)?;
        let allowed = config.webhooks.allowed(auth.is_open());
        let secrets = Secrets::open(store.clone(), &data.secrets_key());
        let secrets = secrets.map_err(|error| OpenError::Secrets(error.into()))?;
        let webhooks = Webhooks::open(store, allowed, config.region.clone());
        let webhooks = webhooks.map_err(|error| OpenError::Webhooks(error.into()))?;
        let wires = Wires::new();
        let homes = Homes::new(
            data.vms().to_owned(),
            roster.clone(),
            Arc::clone(&wires),
            found.next_home(),
        );
        let tools = Tools {
            standby: Standby::new(Arc::clone(&homes), Arc::clone(&spawner)),
            spawner,
            homes,
            reaper: Reaper::default(),
            metrics: Arc::new(Metrics::new(config.templates.names())),
            happenings: Happenings::new(Arc::clone(&webhooks)),
        };
        let unlimited = if config.vm_limits {
            limit_vms(&tools.homes)
        } else {
            Some("the setting vm_limits is off".to_owned())
        };
        let background = Background::default();
        let metrics = Arc::clone(&tools.metrics);
        background.spawn(measure_lag(Arc::downgrade(&metrics)));
        let network = Network::open(
            wires,
            config.network.clone(),
            data.path(),
            &tools.metrics,
            &background,
        );
        let reaper = tools.reaper.clone();
        background.spawn(reaper.work(data.vms().to_owned(), roster, metrics));
        background.spawn(Arc::clone(&tools.homes).keep_stocked());
        let activity = Arc::<Activity>::default();
        // Like pools: what is made before anybody asks for it.
        if config.pools.snapshots {
            let watched = Arc::clone(&activity);
            background.spawn(Arc::clone(&tools.standby).keep(move || watched.is_busy()));
            if !spaces.is_empty() {
                tools.standby.want();
            }
        }
        let mut host = Self {
            turns: Turns::new(&config),
            auth,
            tenants,
            webhooks,
            secrets,
            budget: Budget::new(config.memory.budget_mib),
            memory: MemoryWatch::new(config.memory.probe, config.memory.floor_mib),
            disk: DiskWatch::new(&config.data_dir, config.disk.probe, config.disk.reserve_mib),
            nurseries: BTreeMap::new(),
            boots: Arc::new(Semaphore::new(config.boots_at_once.max(1) as usize)),
            config,
            data,
            spaces,
            share_key,
            tools,
            network,
            registry: Mutex::default(),
            activity,
            scheduler: Scheduler::new(Uptime::default()),
            obituaries: Obituaries::default(),
            owners: TaskTracker::new(),
            background,
            vms_made: AtomicU64::new(0),
            found: Mutex::new(found),
            stopping: AtomicBool::new(false),
            usage: UsageCache::default(),
            unlimited,
        };
        host.open_nurseries();
        let host = Arc::new(host);
        host.background.spawn(Self::guard_memory(Arc::downgrade(&host)));
        host.background.spawn(Self::guard_disk(Arc::downgrade(&host)));
        host.background
            .spawn(Self::forget_old_spaces(Arc::downgrade(&host)));
        host.background.spawn(Self::check_bases(Arc::downgrade(&host)));
        host.background.spawn(Self::keep_time(Arc::downgrade(&host)));
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
                working_sets: pools.working_sets,
                snapshots: self.data.snapshots().to_owned(),
                spaces: Arc::clone(&self.spaces),
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

    pub(crate) fn webhooks(&self) -> &Arc<Webhooks> {
        &self.webhooks
    }

    pub(crate) fn secrets(&self) -> &Arc<Secrets> {
        &self.secrets
    }

    pub(crate) fn spaces(&self) -> &Arc<Spaces> {
        &self.spaces
    }

    pub(crate) fn share_key(&self) -> &ShareKey {
        &self.share_key
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.tools.metrics
    }

    /// Tells everybody who listens what happened to a sandbox. Never waits.
    pub(crate) fn happened(&self, sandbox: &Sandbox, happening: Happening) {
        self.tools.happenings.tell(sandbox, happening);
    }

    /// What is at this moment, for the metrics.
    pub(crate) fn state(&self) -> HostState {
        HostState {
            capacity: self.capacity(None),
            pressure: self.memory.is_critical(),
            disk_pressure: !matches!(self.disk.fullness(), Fullness::Well | Fullness::Between),
            doomed_homes: self.tools.homes.doomed(),
            netd_up: self.network.wires.is_up(),
            wires: self.network.wires.attached(),
            deliveries: self.webhooks.pending(),
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

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts processes of VMs into control groups, or says why not.
fn limit_vms(homes: &Homes) -> Option<String> {
    match Cgroups::open() {
        Ok(cgroups) => {
            homes.limit_with(cgroups);
            None
        }
        Err(error) => {
            let why = ErrorChain(&error).to_string();
            tracing::warn!(why, "VM processes have no limits of their own");
            Some(why)
        }
    }
}

impl Background {
    #[cfg(test)]
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

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

//! All sandboxes of this host: who exists, who may, and the end of all of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Capacity, CreateRequest, MemoryCapacity, RunCapacity, SandboxCounts, SandboxState};
use lifecycle::EndReason;
use pod_types::{IdError, SandboxId};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::auth::Tenant;
use crate::budget::{Budget, OverBudget, memory_available_mib};
use crate::config::HostConfig;
use crate::sandbox::{Beginning, CreateFailure, Message, Owner, Sandbox, Spec};
use crate::storage::{self, DataDir, DataDirError};
use crate::vm::VmmSpawner;

/// Messages an owner may have waiting. Senders wait when it is full; there are only a few kinds.
const MAILBOX: usize = 8;

/// How long all VMs together may take to end at shutdown.
const END_BOUND: Duration = Duration::from_secs(20);

pub struct Host {
    config: HostConfig,
    data: DataDir,
    spawner: Arc<dyn VmmSpawner>,
    sandboxes: Mutex<HashMap<SandboxId, Arc<Sandbox>>>,
    budget: Arc<Budget>,
    boots: Arc<Semaphore>,
    activity: Arc<Activity>,
    owners: TaskTracker,
    stopping: AtomicBool,
}

/// Runs in progress on the whole host.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    runs: AtomicU32,
    quiet: Notify,
}

#[derive(Debug, Error)]
pub enum OpenError {
    #[error("cannot use the data directory")]
    DataDir(#[source] DataDirError),
}

/// Why there is no new sandbox.
#[derive(Debug)]
pub(crate) enum CreateRefused {
    UnknownTemplate {
        name: String,
        known: Vec<String>,
    },
    /// The disk asked for is smaller than the template's own, both in GiB.
    SmallDisk {
        asked: u32,
        least: u32,
    },
    OverBudget(OverBudget),
    Stopping,
    NoId(IdError),
    Failed(Box<CreateFailure>),
    /// The owner ended without a word.
    Lost,
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
    /// Takes the data directory and clears what a daemon that died has left in it.
    ///
    /// # Errors
    /// The directory cannot be used, or belongs to another daemon.
    pub fn open(config: HostConfig, spawner: Arc<dyn VmmSpawner>) -> Result<Arc<Self>, OpenError> {
        let data = DataDir::open(&config.data_dir).map_err(OpenError::DataDir)?;
        Ok(Arc::new(Self {
            budget: Budget::new(config.memory_budget_mib),
            boots: Arc::new(Semaphore::new(config.boots_at_once.max(1) as usize)),
            config,
            data,
            spawner,
            sandboxes: Mutex::default(),
            activity: Arc::default(),
            owners: TaskTracker::new(),
            stopping: AtomicBool::new(false),
        }))
    }

    pub(crate) fn config(&self) -> &HostConfig {
        &self.config
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// A tenant's sandbox; another tenant's is as unknown as one that never was.
    pub(crate) fn find(&self, id: SandboxId, tenant: Tenant) -> Option<Arc<Sandbox>> {
        let sandboxes = self.registry();
        sandboxes
            .get(&id)
            .filter(|sandbox| tenant.may_see(sandbox.tenant))
            .cloned()
    }

    /// A tenant's sandboxes, oldest first.
    pub(crate) fn list(&self, tenant: Tenant) -> Vec<Arc<Sandbox>> {
        let mut list: Vec<_> = self
            .registry()
            .values()
            .filter(|sandbox| tenant.may_see(sandbox.tenant))
            .cloned()
            .collect();
        list.sort_by_key(|sandbox| (sandbox.created_at_ms, sandbox.id));
        list
    }

    /// Creates a sandbox and waits until it is ready. Dropping this ends the sandbox.
    pub(crate) async fn create(
        self: &Arc<Self>,
        request: CreateRequest,
        tenant: Tenant,
    ) -> Result<Arc<Sandbox>, CreateRefused> {
        let spec = self.specify(request)?;
        if self.is_stopping() {
            return Err(CreateRefused::Stopping);
        }
        let reservation = self
            .budget
            .reserve(spec.ram_mib.into())
            .await
            .map_err(CreateRefused::OverBudget)?;
        let id = SandboxId::random().map_err(CreateRefused::NoId)?;
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let sandbox = Arc::new(Sandbox::new(Beginning {
            id,
            tenant,
            spec,
            files: self.data.vm(id),
            runs_max: self.config.runs_per_sandbox,
            mailbox,
            activity: Arc::clone(&self.activity),
        }));
        let (born, birth) = oneshot::channel();
        let owner = Owner {
            sandbox: Arc::clone(&sandbox),
            mailbox: messages,
            reservation,
            spawner: Arc::clone(&self.spawner),
            boots: Arc::clone(&self.boots),
            boot_deadline: self.config.timing.boot_deadline,
            born,
        };
        self.adopt(&sandbox, owner)?;
        match birth.await {
            Ok(Ok(())) => Ok(sandbox),
            Ok(Err(failure)) => Err(CreateRefused::Failed(Box::new(failure))),
            Err(_) => Err(CreateRefused::Lost),
        }
    }

    /// Ends a tenant's sandbox. It is unknown from now on; its VM ends in the background.
    pub(crate) async fn delete(&self, id: SandboxId, tenant: Tenant) {
        let Some(sandbox) = self.find(id, tenant) else {
            return;
        };
        self.registry().remove(&id);
        sandbox.tell(Message::End(EndReason::Deleted)).await;
    }

    pub(crate) fn capacity(&self) -> Capacity {
        let mut sandboxes = SandboxCounts::default();
        for sandbox in self.registry().values() {
            match sandbox.info().state {
                SandboxState::Booting => sandboxes.booting += 1,
                SandboxState::Ready => sandboxes.ready += 1,
                SandboxState::Failed => sandboxes.failed += 1,
                SandboxState::Ending => {}
            }
        }
        // A deleted sandbox is unknown at once, and its owner lives until its VM is gone.
        let known = sandboxes.booting + sandboxes.ready + sandboxes.failed;
        let owners = u32::try_from(self.owners.len()).unwrap_or(u32::MAX);
        sandboxes.ending = owners.saturating_sub(known);
        let (budget_mib, used_mib) = (self.budget.total_mib(), self.budget.used_mib());
        Capacity {
            memory: MemoryCapacity {
                budget_mib,
                used_mib,
                free_mib: budget_mib.saturating_sub(used_mib),
                host_available_mib: memory_available_mib(),
            },
            sandboxes,
            execs: RunCapacity {
                running: self.activity.runs.load(Ordering::Relaxed),
                per_sandbox_max: self.config.runs_per_sandbox,
                boots_at_once_max: self.config.boots_at_once,
            },
            templates: self.config.templates.names().map(str::to_owned).collect(),
        }
    }

    /// Refuses new work, lets runs end within the grace period, then ends every sandbox. `hurry` cuts the grace short.
    pub async fn shutdown(&self, hurry: impl Future<Output = ()>) -> ShutdownReport {
        self.stopping.store(true, Ordering::Relaxed);
        let grace = timeout(self.config.timing.shutdown_grace, self.activity.quiet());
        tokio::select! {
            _ = grace => {}
            () = hurry => {}
        }
        let runs_cut = self.activity.runs.load(Ordering::Relaxed);
        let sandboxes: Vec<_> = self.registry().drain().map(|(_, sandbox)| sandbox).collect();
        for sandbox in &sandboxes {
            sandbox.tell(Message::End(EndReason::Shutdown)).await;
        }
        self.owners.close();
        if timeout(END_BOUND, self.owners.wait()).await.is_err() {
            tracing::error!(left = self.owners.len(), "sandboxes did not end in time");
        }
        let processes_left = storage::vm_processes(self.data.vms());
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

    fn specify(&self, request: CreateRequest) -> Result<Spec, CreateRefused> {
        let templates = &self.config.templates;
        let Some(template) = templates.get(request.template.as_deref()) else {
            return Err(CreateRefused::UnknownTemplate {
                name: request.template.unwrap_or_default(),
                known: templates.names().map(str::to_owned).collect(),
            });
        };
        let least = template.rootfs_gb();
        let rootfs_gb = request.rootfs_gb.unwrap_or(least);
        if rootfs_gb < least {
            return Err(CreateRefused::SmallDisk {
                asked: rootfs_gb,
                least,
            });
        }
        Ok(Spec {
            template: template.clone(),
            vcpus: self.config.vcpus,
            ram_mib: request.ram_mib.unwrap_or(self.config.ram_mib),
            rootfs_gb,
            timeout_seconds: request.timeout_seconds,
            idle_timeout_seconds: request.idle_timeout_seconds,
            persistent: request.persistent,
            egress: request.egress,
        })
    }

    /// Registers a sandbox and starts its owner, which takes it off the list when it ends.
    fn adopt(self: &Arc<Self>, sandbox: &Arc<Sandbox>, owner: Owner) -> Result<(), CreateRefused> {
        let span = tracing::info_span!(parent: None, "sandbox", sandbox_id = %sandbox.id);
        let host = Arc::clone(self);
        let id = sandbox.id;
        let mut sandboxes = self.registry();
        // Looked at under the lock: a shutdown empties the list only after it has set this.
        if self.is_stopping() {
            return Err(CreateRefused::Stopping);
        }
        sandboxes.insert(id, Arc::clone(sandbox));
        let life = async move {
            owner.run().await;
            host.registry().remove(&id);
        };
        self.owners.spawn(life.instrument(span));
        Ok(())
    }

    fn registry(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Sandbox>>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Activity {
    pub(crate) fn begin(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        if self.runs.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.quiet.notify_waiters();
        }
    }

    /// Waits until nothing runs.
    async fn quiet(&self) {
        loop {
            let quiet = self.quiet.notified();
            if self.runs.load(Ordering::Relaxed) == 0 {
                return;
            }
            quiet.await;
        }
    }
}

//! What everybody who holds a sandbox can see of it and do to it.
//!
//! The phase is changed by the owner task alone. Runs are admitted here, under a lock held for a few instructions:
//! passing each through the owner's mailbox would cost every exec two task switches.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use api::{SandboxInfo, SandboxState, SandboxStats};
use lifecycle::{Machine, Phase, RunRefused};
use pod_types::SandboxId;
use tokio::sync::{mpsc, oneshot, watch};

use super::owner::Message;
use crate::agent::AgentConnection;
use crate::auth::Tenant;
use crate::clock;
use crate::host::Activity;
use crate::storage::Template;
use crate::vm::VmFiles;

/// Warm connections kept per sandbox; more runs than these at once connect anew.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// What was asked for, with the host's defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) template: Template,
    pub(crate) vcpus: u8,
    pub(crate) ram_mib: u32,
    pub(crate) rootfs_gb: u32,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) idle_timeout_seconds: Option<u64>,
    pub(crate) persistent: bool,
    pub(crate) egress: bool,
}

/// What a sandbox begins with.
pub(crate) struct Beginning {
    pub(crate) id: SandboxId,
    pub(crate) tenant: Tenant,
    pub(crate) spec: Spec,
    pub(crate) files: VmFiles,
    pub(crate) runs_max: u32,
    /// Leads to the owner.
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) activity: Arc<Activity>,
}

pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) tenant: Tenant,
    pub(crate) spec: Spec,
    pub(crate) created_at_ms: u64,
    pub(crate) files: VmFiles,
    machine: Mutex<Machine>,
    /// Tells those who wait that the phase has changed.
    changed: watch::Sender<()>,
    idle: Mutex<Vec<AgentConnection>>,
    /// 0 when there is no process.
    pub(super) vmm_pid: AtomicU32,
    /// The guest's last words, once it has failed.
    pub(super) last_words: OnceLock<String>,
    mailbox: mpsc::Sender<Message>,
    activity: Arc<Activity>,
}

/// One accepted run; dropping it makes room for another.
pub(crate) struct RunTicket {
    sandbox: Arc<Sandbox>,
}

impl Sandbox {
    pub(crate) fn new(beginning: Beginning) -> Self {
        Self {
            id: beginning.id,
            tenant: beginning.tenant,
            spec: beginning.spec,
            created_at_ms: clock::now_ms(),
            files: beginning.files,
            machine: Mutex::new(Machine::new(beginning.runs_max)),
            changed: watch::Sender::new(()),
            idle: Mutex::default(),
            vmm_pid: AtomicU32::new(0),
            last_words: OnceLock::new(),
            mailbox: beginning.mailbox,
            activity: beginning.activity,
        }
    }

    pub(crate) fn begin_run(self: &Arc<Self>) -> Result<RunTicket, RunRefused> {
        self.machine(Machine::begin_run)?;
        self.activity.begin();
        Ok(RunTicket {
            sandbox: Arc::clone(self),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.machine(|machine| machine.phase().clone())
    }

    /// The guest's last words on its console, once it has failed.
    pub(crate) fn last_words(&self) -> Option<&str> {
        self.last_words
            .get()
            .map(String::as_str)
            .filter(|words| !words.is_empty())
    }

    /// Waits until the sandbox is neither booting nor ready.
    pub(crate) async fn down(&self) {
        let mut changed = self.changed.subscribe();
        while matches!(self.phase(), Phase::Booting | Phase::Ready) {
            // The sender lives in `self`, so this cannot fail while `self` is borrowed.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Sends the owner a message; false when it has ended.
    pub(crate) async fn tell(&self, message: Message) -> bool {
        self.mailbox.send(message).await.is_ok()
    }

    pub(crate) async fn stats(&self) -> Option<SandboxStats> {
        let (reply, answer) = oneshot::channel();
        if !self.tell(Message::Stats(reply)).await {
            return None;
        }
        let stats = answer.await.ok()?;
        Some(SandboxStats {
            uptime_ms: stats.uptime_ms,
            memory_resident_bytes: stats.memory_resident_bytes,
            disk_layer_bytes: stats.disk_layer_bytes,
            block_reads: stats.block_reads,
            block_writes: stats.block_writes,
            block_flushes: stats.block_flushes,
            vcpu_exits: stats.vcpu_exits,
        })
    }

    pub(crate) fn info(&self) -> SandboxInfo {
        let (phase, runs) = self.machine(|machine| (machine.phase().clone(), machine.runs()));
        let pid = self.vmm_pid.load(Ordering::Relaxed);
        SandboxInfo {
            id: self.id,
            state: state_of(&phase),
            template: self.spec.template.name.clone(),
            ram_mib: self.spec.ram_mib,
            rootfs_gb: self.spec.rootfs_gb,
            vcpus: self.spec.vcpus,
            created_at_ms: self.created_at_ms,
            timeout_seconds: self.spec.timeout_seconds,
            idle_timeout_seconds: self.spec.idle_timeout_seconds,
            persistent: self.spec.persistent,
            egress: self.spec.egress,
            vmm_pid: (pid != 0).then_some(pid),
            running_execs: runs,
            last_error: match phase {
                Phase::Failed { why } => Some(why),
                _ => None,
            },
            stats: None,
        }
    }

    pub(super) fn warm_connection(&self) -> Option<AgentConnection> {
        lock(&self.idle).pop()
    }

    pub(super) fn keep_connection(&self, mut connection: AgentConnection) {
        connection.rest();
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
    }

    pub(super) fn drop_connections(&self) {
        lock(&self.idle).clear();
    }

    /// Works on the state machine; whoever waits for a change of phase looks again.
    pub(super) fn advance<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        let result = self.machine(work);
        self.changed.send_replace(());
        result
    }

    fn machine<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        work(&mut lock(&self.machine))
    }
}

impl Drop for RunTicket {
    fn drop(&mut self) {
        self.sandbox.machine(Machine::end_run);
        self.sandbox.activity.end();
    }
}

pub(crate) fn state_of(phase: &Phase) -> SandboxState {
    match phase {
        Phase::Booting => SandboxState::Booting,
        Phase::Ready => SandboxState::Ready,
        Phase::Failed { .. } => SandboxState::Failed,
        Phase::Ending { .. } | Phase::Gone { .. } => SandboxState::Ending,
    }
}

/// Nothing panics while it holds one of these, and each change is a single statement.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

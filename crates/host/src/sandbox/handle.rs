//! What everybody who holds a sandbox can see of it and do to it.
//!
//! The phase is changed by the owner task alone, but for the end of one whose time has run out, which is decided where
//! runs are admitted, so that none comes between. Runs are admitted here, under a lock held for a few instructions:
//! passing each through the owner's mailbox would cost every exec two task switches.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use api::{SandboxInfo, SandboxState, SandboxStats, Source};
use egress::Policy;
use lifecycle::{Ancestry, ForkRefused, Machine, MergeRefused, Moment, Phase, RunRefused, Use};
use pod_types::SandboxId;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::allowance::Allowance;
use super::disk_room::DiskRoom;
use super::owner::Message;
use super::standing::Standing;
use super::tally::Tally;
use super::uses::Uses;
use crate::agent::AgentConnection;
use crate::auth::Tenant;
use crate::checkpoints::Checkpoints;
use crate::clock;
use crate::files::PER_SANDBOX_MAX;
use crate::host::Activity;
use crate::lifetimes::{Alarm, Uptime};
use crate::memory::memory_of;
use crate::metrics::Metrics;
use crate::network::WireLink;
use crate::ports::PortSlots;
use crate::pty::PtySlots;
use crate::replay::Replay;
use crate::storage::Template;
use crate::tenants::{Account, RunSlot, Slot};
use crate::vm::{Process, Roster, VmFiles};

/// Warm connections kept per sandbox; more runs than these at once connect anew.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// What was asked for, with the host's defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) template: Template,
    pub(crate) vcpus: u8,
    pub(crate) ram_mib: u32,
    pub(crate) rootfs_gb: u32,
    /// What it may reach at its beginning.
    pub(crate) egress: Policy,
    /// Names of secrets that it may use, revoked ones among them.
    pub(crate) secrets: Vec<String>,
}

/// What was agreed on with the client. It goes with the id, whichever VM is under it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// Milliseconds since the Unix epoch, for people.
    pub(crate) created_at_ms: u64,
    /// The same, for counting: by the host's [`Uptime`], which means the same to the next daemon on the same boot.
    pub(crate) born_ms: u64,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) idle_timeout_seconds: Option<u64>,
    pub(crate) persistent: bool,
}

/// Under what a sandbox is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Title {
    pub(crate) id: SandboxId,
    pub(crate) terms: Terms,
}

/// Where a VM comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) source: Source,
    /// Forks since the template.
    pub(crate) generation: u32,
    /// Times are milliseconds since the Unix epoch.
    pub(crate) ancestry: Ancestry,
}

/// What a sandbox begins with.
pub(crate) struct Beginning {
    pub(crate) title: Title,
    /// Its tenant's room for it; `None` for one that takes another's place, with the room of that.
    pub(crate) slot: Option<Slot>,
    pub(crate) account: Arc<Account>,
    pub(crate) spec: Spec,
    pub(crate) origin: Origin,
    pub(crate) files: VmFiles,
    pub(crate) wire: WireLink,
    pub(crate) runs_max: u32,
    pub(crate) replay: Arc<Replay>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// Leads to the owner.
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) roster: Roster,
    pub(crate) activity: Arc<Activity>,
    pub(crate) uptime: Uptime,
    pub(crate) metrics: Arc<Metrics>,
}

pub(crate) struct Sandbox {
    pub(crate) tenant: Tenant,
    /// The same, with what it has used.
    pub(crate) account: Arc<Account>,
    /// Given back as soon as no client knows the sandbox any more.
    slot: Mutex<Option<Slot>>,
    pub(crate) spec: Spec,
    pub(crate) origin: Origin,
    pub(crate) files: VmFiles,
    /// Its network, and what it may reach: that goes with the VM.
    pub(crate) wire: WireLink,
    /// What its runs have said. It goes with the VM, whatever that is known as.
    pub(crate) replay: Arc<Replay>,
    /// They go with the id through rollbacks, and with the VM through merges.
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// Changed under the registry's lock only, so that what is found under an id has it.
    title: Mutex<Title>,
    machine: Mutex<Machine>,
    /// Tells those who wait that the phase has changed.
    changed: watch::Sender<()>,
    idle: Mutex<Vec<AgentConnection>>,
    pub(crate) pty: PtySlots,
    pub(crate) ports: PortSlots,
    /// Of file requests in progress.
    pub(crate) transfers: Arc<Semaphore>,
    /// 0 when there is no process.
    pub(super) vmm_pid: AtomicU32,
    /// What the next daemon is to know.
    pub(super) standing: Mutex<Standing>,
    /// The guest's last words, once it has failed.
    pub(super) last_words: OnceLock<String>,
    mailbox: mpsc::Sender<Message>,
    roster: Roster,
    activity: Arc<Activity>,
    pub(super) uses: Uses,
    /// When it is looked at whether its time has run out.
    alarm: Mutex<Option<Alarm<Self>>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tally: Tally,
    /// What its agent was last told to leave free of its disk.
    pub(crate) disk_room: DiskRoom,
    pub(super) allowance: Allowance,
}

/// One accepted run; dropping it makes room for another.
pub(crate) struct RunTicket {
    sandbox: Arc<Sandbox>,
    _slot: RunSlot,
}

/// One accepted fork; the same.
pub(crate) struct ForkTicket {
    sandbox: Arc<Sandbox>,
}

impl Sandbox {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let source = beginning.origin.source;
        Self {
            tenant: beginning.account.tenant(),
            account: beginning.account,
            slot: Mutex::new(beginning.slot),
            spec: beginning.spec,
            origin: beginning.origin,
            files: beginning.files,
            wire: beginning.wire,
            replay: beginning.replay,
            checkpoints: beginning.checkpoints,
            title: Mutex::new(beginning.title),
            machine: Mutex::new(Machine::new(beginning.runs_max)),
            changed: watch::Sender::new(()),
            idle: Mutex::default(),
            pty: PtySlots::default(),
            ports: PortSlots::default(),
            transfers: Arc::new(Semaphore::new(PER_SANDBOX_MAX)),
            vmm_pid: AtomicU32::new(0),
            standing: Mutex::default(),
            last_words: OnceLock::new(),
            mailbox: beginning.mailbox,
            roster: beginning.roster,
            activity: beginning.activity,
            uses: Uses::new(beginning.uptime),
            alarm: Mutex::default(),
            metrics: beginning.metrics,
            tally: Tally::default(),
            disk_room: DiskRoom::of(source),
            allowance: Allowance::default(),
        }
    }

    /// Its VM is up, in this process, and its guest has taken on its identity, over this connection if it is free.
    pub(crate) fn be_born(&self, process: &Process, connection: Option<AgentConnection>) {
        self.runs_as(process);
        if let Some(connection) = connection {
            self.keep_connection(connection);
        }
        self.begin_slot();
        self.touch();
        // Nobody else knows it yet, so it is still booting here.
        drop(self.advance(Machine::booted));
    }

    /// It was ready under a daemon before this one, and its VM is gone. It fails as soon as its owner begins.
    pub(crate) fn be_lost(&self) {
        self.begin_slot();
        drop(self.advance(Machine::booted));
    }

    /// Its VM is this process.
    pub(super) fn runs_as(&self, process: &Process) {
        self.vmm_pid.store(process.pid(), Ordering::Relaxed);
        self.standing().process = Some(process.name());
    }

    pub(crate) fn id(&self) -> SandboxId {
        lock(&self.title).id
    }

    /// Its time counts from now on.
    pub(crate) fn begin_slot(&self) {
        if let Some(slot) = lock(&self.slot).as_mut() {
            slot.begin();
        }
    }

    /// Makes room for another sandbox of its tenant: no client knows this one any more.
    pub(crate) fn leave_slot(&self) {
        let slot = lock(&self.slot).take();
        drop(slot);
    }

    /// Replaces the one before.
    pub(crate) fn set_alarm(&self, alarm: Option<Alarm<Self>>) {
        let before = std::mem::replace(&mut *lock(&self.alarm), alarm);
        drop(before);
    }

    /// A client has sent so many bytes to it: code, input, a file.
    pub(crate) fn received(&self, bytes: usize) {
        self.touch_if(bytes > 0);
        self.account.usage().received(bytes);
    }

    /// It has sent so many bytes to a client: events, output, a file.
    pub(crate) fn sent(&self, bytes: usize) {
        self.touch_if(bytes > 0);
        self.account.usage().sent(bytes);
    }

    /// Takes over the room of another.
    pub(crate) fn take_slot(&self, other: &Self) {
        let slot = lock(&other.slot).take();
        *lock(&self.slot) = slot;
    }

    pub(crate) fn describe_checkpoints(&self) -> Vec<api::Checkpoint> {
        let all = self.checkpoints.all().into_iter();
        all.map(|checkpoint| checkpoint.describe()).collect()
    }

    /// The process of its VM, while there is one.
    pub(crate) fn vmm_pid(&self) -> Option<u32> {
        let pid = self.vmm_pid.load(Ordering::Relaxed);
        (pid != 0).then_some(pid)
    }

    pub(crate) fn title(&self) -> Title {
        *lock(&self.title)
    }

    /// It is known as another from now on.
    pub(crate) fn rename(&self, title: Title) {
        *lock(&self.title) = title;
    }

    pub(crate) fn begin_fork(self: &Arc<Self>) -> Result<ForkTicket, ForkRefused> {
        self.machine(Machine::begin_fork)?;
        self.touch();
        Ok(ForkTicket {
            sandbox: Arc::clone(self),
        })
    }

    /// Whether an earlier state may take its place.
    pub(crate) fn may_roll_back(&self) -> Result<(), ForkRefused> {
        self.machine(|machine| machine.may_roll_back())
    }

    /// Whether `winner` may take its place.
    pub(crate) fn may_yield_to(&self, winner: &Self) -> Result<(), MergeRefused> {
        if std::ptr::eq(self, winner) {
            return Err(MergeRefused::Itself);
        }
        // Copied, so that two locks are never held at once.
        let winner = self_contained(winner);
        self.machine(|machine| machine.may_yield_to(&winner))
    }

    pub(crate) fn begin_run(self: &Arc<Self>) -> Result<RunTicket, RunRefused> {
        let slot = self.account.begin_run();
        let slot = slot.map_err(|max| RunRefused::TenantTooMany { max })?;
        self.machine(Machine::begin_run)?;
        self.touch();
        self.activity.begin_run();
        self.replay.ask();
        self.account.usage().exec();
        Ok(RunTicket {
            sandbox: Arc::clone(self),
            _slot: slot,
        })
    }

    /// It is let go of, for the next daemon.
    pub(super) fn is_left(&self) -> bool {
        self.roster.is_left()
    }

    /// Runs in progress, those that wait included.
    pub(crate) fn runs(&self) -> u32 {
        self.machine(|machine| machine.runs())
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
        while matches!(self.phase(), Phase::Booting | Phase::Ready | Phase::Freezing) {
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

    /// The way to the owner, for those who cannot wait.
    pub(crate) fn mailbox(&self) -> mpsc::Sender<Message> {
        self.mailbox.clone()
    }

    pub(crate) async fn stats(&self) -> Option<SandboxStats> {
        let (reply, answer) = oneshot::channel();
        if !self.tell(Message::Stats(reply)).await {
            return None;
        }
        let stats = answer.await.ok()?;
        // A confined process cannot see its own counters.
        let memory = self.vmm_pid().and_then(memory_of);
        Some(SandboxStats {
            uptime_ms: stats.uptime_ms,
            memory_resident_bytes: memory.map_or(stats.memory_resident_bytes, |memory| memory.resident_bytes),
            disk_layer_bytes: stats.disk_layer_bytes,
            block_reads: stats.block_reads,
            block_writes: stats.block_writes,
            block_flushes: stats.block_flushes,
            vcpu_exits: stats.vcpu_exits,
        })
    }

    pub(crate) fn info(&self) -> SandboxInfo {
        let (phase, runs) = self.machine(|machine| (machine.phase().clone(), machine.runs()));
        let Title { id, terms } = self.title();
        let (now_ms, now) = (clock::now_ms(), self.uptime().now());
        // What people see follows the time of day; what is counted does not.
        let shown = |moment: Moment| (now_ms + moment.since(now)).saturating_sub(now.since(moment));
        let (lifetime, usage) = (terms.lifetime(), self.usage());
        SandboxInfo {
            id,
            state: state_of(&phase),
            template: self.spec.template.name.clone(),
            ram_mib: self.spec.ram_mib,
            rootfs_gb: self.spec.rootfs_gb,
            vcpus: self.spec.vcpus,
            created_at_ms: terms.created_at_ms,
            timeout_seconds: terms.timeout_seconds,
            idle_timeout_seconds: terms.idle_timeout_seconds,
            expires_at_ms: lifetime.ends().map(shown),
            idle_expires_at_ms: lifetime.idle_ends(usage).map(shown),
            last_active_at_ms: Some(match usage {
                Use::Now => now_ms,
                Use::Until(last) => shown(last),
            }),
            persistent: terms.persistent,
            egress: self.egress(),
            secrets: self.spec.secrets.clone(),
            vmm_pid: self.vmm_pid(),
            parent: None,
            children: Vec::new(),
            checkpoints: self.describe_checkpoints(),
            generation: self.origin.generation,
            source: Some(self.origin.source),
            running_execs: runs,
            last_error: match phase {
                Phase::Failed { why } => Some(why),
                _ => None,
            },
            stats: None,
            network: None,
            usage: None,
        }
    }

    /// Counts a run that was sent to the agent then; how long it waited for those before it.
    pub(super) fn run_ended(&self, sent: Instant, ended: Instant) -> Duration {
        self.tally.run_ended(sent, ended)
    }

    /// A connection that has served before, if there is one.
    pub(crate) fn warm_connection(&self) -> Option<AgentConnection> {
        lock(&self.idle).pop()
    }

    pub(crate) fn keep_connection(&self, mut connection: AgentConnection) {
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
    pub(crate) fn advance<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        let result = self.machine(work);
        self.changed.send_replace(());
        result
    }

    pub(super) fn machine<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        work(&mut lock(&self.machine))
    }
}

impl Drop for RunTicket {
    fn drop(&mut self) {
        // Before it counts as idle again.
        self.sandbox.touch();
        self.sandbox.machine(Machine::end_run);
        self.sandbox.activity.end_run();
        self.sandbox.replay.tell();
    }
}

impl Drop for ForkTicket {
    fn drop(&mut self) {
        self.sandbox.touch();
        self.sandbox.machine(Machine::end_fork);
    }
}

fn self_contained(sandbox: &Sandbox) -> Machine {
    sandbox.machine(|machine| machine.clone())
}

pub(crate) fn state_of(phase: &Phase) -> SandboxState {
    match phase {
        Phase::Booting => SandboxState::Booting,
        Phase::Ready => SandboxState::Ready,
        Phase::Freezing => SandboxState::Freezing,
        Phase::Failed { .. } => SandboxState::Failed,
        Phase::Ending { .. } | Phase::Gone { .. } => SandboxState::Ending,
    }
}

/// Nothing panics while it holds one of these, and each change is a single statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

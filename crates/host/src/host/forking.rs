//! Copies of a running sandbox, and putting one in the place of another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent_proto::{FailureCode, Reply, Request};
use api::Source;
use egress::Policy;
use futures_util::future::{join_all, try_join_all};
use lifecycle::{EndReason, ForkRefused, QuotaRefused};
use pod_types::SandboxId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::creation::{Draft, NotAdopted, Place};
use super::registry::{MergeError, Merged};
use super::room::Unserved;
use super::turns::Line;
use super::{Host, Marks, NoRoom};
use crate::agent::Clock;
use crate::agent::{AgentConnection, AgentError};
use crate::auth::Tenant;
use crate::budget::Reservation;
use crate::clock;
use crate::events;
use crate::happenings::Happening;
use crate::metrics::{Failing, Operation};
use crate::nursery::{RaiseError, raise};
use crate::replay::{Replay, Scribe, Succession};
use crate::sandbox::{Message, Origin, RunStream, Sandbox, Spec, Start, Terms, Title};
use crate::tenants::TurnRefused;
use crate::vm::{CloneError, Order, Vm};

/// What a clone counts for where clones of its template were never measured, in MiB.
const FIRST_ESTIMATE_MIB: u64 = 64;

/// How long a child may take to say whether a run goes on in it. It may have to wait for a thread that has not noticed
/// yet that it is in a clone.
const FOLLOW_BOUND: Duration = Duration::from_secs(10);

/// Why there are no copies of a sandbox. It is unharmed in any case.
#[derive(Debug)]
pub(crate) enum ForkError {
    Unknown,
    Refused(ForkRefused),
    Stopping,
    Quota(QuotaRefused),
    Turn(TurnRefused),
    NoRoom(NoRoom),
    Clone(CloneError),
    Raise(RaiseError),
    /// Nobody knows what became of the run in progress in a child.
    Carry(AgentError),
    /// What the children are could not be written down for the daemon after this one.
    Record(io::Error),
}

/// What a child starts with beside its VM.
pub(super) struct Heir {
    pub(super) replay: Arc<Replay>,
    pub(super) reached: Reached,
}

/// The connection on which a child was told who it is.
pub(super) enum Reached {
    Idle(AgentConnection),
    /// It follows the run that goes on in the child.
    Carried(AgentConnection, Scribe),
}

/// A child that nobody knows yet.
struct Newborn {
    sandbox: Arc<Sandbox>,
    mailbox: mpsc::Receiver<Message>,
    vm: Vm,
    part: Reservation,
    /// The run that goes on in it.
    carried: Option<Carried>,
}

/// Writes down what each child is; some dozen files would keep others from a thread of the runtime.
async fn write_records(children: Vec<Newborn>, parent: SandboxId) -> io::Result<Vec<Newborn>> {
    let write = move || {
        for child in &children {
            child.sandbox.replay.keep_in(child.sandbox.files.replay());
            child.sandbox.begin_record(Some(parent), child.part.mib())?;
        }
        Ok(children)
    };
    tokio::task::spawn_blocking(write)
        .await
        .map_err(io::Error::other)?
}

/// A run that goes on, and what writes it down.
pub(super) type Carried = (AgentConnection, Scribe);

impl Reached {
    pub(super) fn split(self) -> (Option<AgentConnection>, Option<Carried>) {
        match self {
            Self::Idle(connection) => (Some(connection), None),
            Self::Carried(connection, scribe) => (None, Some((connection, scribe))),
        }
    }
}

impl Heir {
    /// `busy` says whether a run may go on there.
    pub(super) async fn new(
        succession: &Succession,
        busy: bool,
        connection: AgentConnection,
    ) -> Result<Self, AgentError> {
        if busy {
            Self::of_busy(succession, connection).await
        } else {
            Ok(Self::of_idle(succession, connection))
        }
    }

    fn of_idle(succession: &Succession, connection: AgentConnection) -> Self {
        Self {
            replay: succession.heir(),
            reached: Reached::Idle(connection),
        }
    }

    /// Asks before anybody knows the child: the next run in it would make it forget one that has ended by now.
    async fn of_busy(succession: &Succession, mut connection: AgentConnection) -> Result<Self, AgentError> {
        let asked = timeout(FOLLOW_BOUND, connection.ask(&Request::Follow)).await;
        match asked.unwrap_or(Err(AgentError::Silent))? {
            Reply::Carried(carried) => {
                let (replay, scribe) = succession.heir_of(carried);
                let reached = Reached::Carried(connection, scribe);
                Ok(Self { replay, reached })
            }
            // The last run had just ended, or the next not begun: then it is the parent's.
            Reply::Failed(failure) if failure.code == FailureCode::NotFound => {
                Ok(Self::of_idle(succession, connection))
            }
            Reply::Failed(failure) => Err(AgentError::Failed(failure.message)),
            _ => Err(AgentError::Unexpected { expected: "Follow" }),
        }
    }
}

impl ForkError {
    fn failing(&self) -> Failing {
        match self {
            Self::Unknown | Self::Refused(_) | Self::Quota(_) | Self::Turn(_) => Failing::Refused,
            Self::Stopping => Failing::Stopping,
            Self::NoRoom(_) => Failing::NoRoom,
            Self::Clone(_) | Self::Raise(_) | Self::Carry(_) => Failing::Vm,
            Self::Record(_) => Failing::Internal,
        }
    }
}

impl From<Unserved> for ForkError {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::NoRoom(no_room) => Self::NoRoom(no_room),
            Unserved::Turn(refused) => Self::Turn(refused),
        }
    }
}

impl Host {
    /// Makes `count` copies of a sandbox; each has acknowledged who it is. All or none. Dropping this ends those that
    /// have been made.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        id: SandboxId,
        tenant: Tenant,
        count: u8,
    ) -> Result<(Vec<SandboxId>, Marks), ForkError> {
        let forked = self.fork_uncounted(id, tenant, count).await;
        let births = &self.metrics().births;
        match &forked {
            Ok((children, marks)) => {
                births.forked(children.len(), marks.elapsed());
                births.stages(Operation::Fork, marks.spans());
            }
            Err(error) => births.failed(Operation::Fork, error.failing()),
        }
        forked
    }

    async fn fork_uncounted(
        self: &Arc<Self>,
        id: SandboxId,
        tenant: Tenant,
        count: u8,
    ) -> Result<(Vec<SandboxId>, Marks), ForkError> {
        let mut marks = Marks::begin();
        let parent = self.find(id, tenant).ok_or(ForkError::Unknown)?;
        if self.is_stopping() {
            return Err(ForkError::Stopping);
        }
        self.disk
            .admit()
            .map_err(|full| ForkError::NoRoom(NoRoom::Disk(full)))?;
        self.tools.happenings.pace().await;
        let _foreground = self.activity.foreground();
        let _ticket = parent.begin_fork().map_err(ForkError::Refused)?;
        let account = &parent.account;
        let slots = account
            .admit(self.tenants().now(), count)
            .map_err(ForkError::Quota)?;
        let line = Line::Fork(count);
        let turn = self.turns.enter(line, tenant).await.map_err(ForkError::Turn)?;
        let each_mib = self.clone_estimate_mib(&parent.spec);
        let need = each_mib * u64::from(count);
        let (mut reservation, _turn) = self.room_at_turn(turn, line, need, account).await?;
        marks.mark("turn");
        // Before the first of them is made: what the parent does from here on may be its own.
        let (created_at_ms, born_ms) = (clock::now_ms(), self.scheduler.uptime().now().ms());
        let mut succession = Succession::begin(&parent.replay, parent.runs() > 0);
        let (reply, made) = oneshot::channel();
        let order = Order { count, run: true };
        // An owner that is gone, or does not come to it before the end, drops the question.
        if !parent.tell(Message::Clone(order, reply)).await {
            return Err(ForkError::Unknown);
        }
        let cloning = made.instrument(tracing::debug_span!("clone", count));
        let brood = cloning.await.map_err(|_| ForkError::Unknown)?;
        let brood = brood.map_err(ForkError::Clone)?;
        marks.mark("clone");
        marks.note("paused", Duration::from_micros(brood.paused_us));
        let busy = succession.look();
        let raised = brood.vms.into_iter().map(|vm| async {
            let (id, vm, connection) = raise(vm, Clock::WentOn, count).await.map_err(ForkError::Raise)?;
            let heir = Heir::new(&succession, busy, connection);
            let heir = heir.await.map_err(ForkError::Carry)?;
            Ok::<_, ForkError>((id, vm, heir))
        });
        let raising = try_join_all(raised).instrument(tracing::debug_span!("identity"));
        let children = raising.await?;
        marks.mark("identity");
        let mut births = Vec::with_capacity(children.len());
        for ((id, vm, heir), slot) in children.into_iter().zip(slots) {
            let terms = Terms {
                created_at_ms,
                born_ms,
                ..parent.title().terms
            };
            let wire = vm.home.wire_link();
            let draft = Draft {
                title: Title { id, terms },
                account: Arc::clone(slot.account()),
                slot: Some(slot),
                spec: Spec {
                    egress: wire.policy().unwrap_or(Policy::Closed),
                    ..parent.spec.clone()
                },
                origin: Origin {
                    source: Source::Fork,
                    generation: parent.origin.generation.saturating_add(1),
                    ancestry: parent.origin.ancestry.child(self.next_vm(), created_at_ms),
                },
                files: vm.home.files.clone(),
                wire,
                replay: heir.replay,
                checkpoints: Arc::default(),
            };
            let (sandbox, mailbox) = self.draw_up(draft);
            sandbox.disk_room.inherit(&parent.disk_room);
            sandbox.inherit_network();
            let (idle, carried) = heir.reached.split();
            sandbox.be_born(&vm.process, idle);
            births.push(Newborn {
                sandbox,
                mailbox,
                vm,
                part: reservation.split(each_mib),
                carried,
            });
        }
        let births = write_records(births, parent.id())
            .await
            .map_err(ForkError::Record)?;
        marks.mark("record");
        let ready = births.iter().map(|child| child.sandbox.network_is_ready());
        join_all(ready).await;
        let mut known = Vec::with_capacity(births.len());
        for newborn in births {
            let Newborn {
                sandbox,
                mailbox,
                vm,
                part,
                carried,
            } = newborn;
            let start = Start::Born(Box::new(vm));
            let place = Place::New {
                parent: Some(&parent),
            };
            self.adopt(&sandbox, place, mailbox, part, start)
                .map_err(|_: NotAdopted| ForkError::Stopping)?;
            self.give_secrets(&sandbox);
            let parent = parent.id();
            self.happened(&sandbox, Happening::Forked { parent });
            self.carry_on(&sandbox, carried);
            known.push(sandbox.id());
        }
        Ok((known, marks))
    }

    /// Writes down the run that goes on in a sandbox, if there is one.
    pub(super) fn carry_on(&self, sandbox: &Arc<Sandbox>, carried: Option<Carried>) {
        if let Some((connection, scribe)) = carried
            && let Ok(ticket) = sandbox.begin_run()
        {
            let run = RunStream::following(Arc::clone(sandbox), ticket, connection, scribe);
            self.background.spawn(run.write_down());
        }
    }

    /// What a clone of such a sandbox is taken to need of its own.
    pub(super) fn clone_estimate_mib(&self, spec: &Spec) -> u64 {
        let ram_mib = u64::from(spec.ram_mib);
        let nursery = self.nurseries.get(&spec.template.name);
        nursery
            .map_or(FIRST_ESTIMATE_MIB, |nursery| nursery.estimate_mib())
            .min(ram_mib)
    }

    /// Puts the winner's VM under the loser's id. The winner's own id is unknown from now on, and the loser's VM ends
    /// in the background.
    pub(crate) fn merge(
        &self,
        loser: SandboxId,
        winner: SandboxId,
        tenant: Tenant,
    ) -> Result<Marks, MergeError> {
        let mut marks = Marks::begin();
        let births = &self.metrics().births;
        let merged = self
            .registry()
            .merge(loser, winner, tenant)
            .inspect_err(|_| births.failed(Operation::Merge, Failing::Refused))?;
        let Merged {
            old,
            new,
            parent,
            children,
        } = merged;
        // From here on a daemon that comes after this one finds the winner under the id, and then nothing of the loser.
        let recorded = new.succeed(&old, winner, parent);
        self.background.spawn(async move {
            let write = move || children.iter().for_each(|child| child.now_child_of(loser));
            drop(tokio::task::spawn_blocking(write).await);
        });
        tracing::info!(event = events::SANDBOX_MERGED, sandbox_id = %loser, winner = %winner, "sandbox merged");
        let into = loser;
        self.tools
            .happenings
            .tell_as(winner, &new, Happening::Merged { into });
        self.dismiss(&old, EndReason::Merged);
        // Its terms are the loser's now.
        self.watch(&new);
        marks.mark("swap");
        births.merged();
        births.stages(Operation::Merge, marks.spans());
        recorded.map_err(MergeError::Record)?;
        Ok(marks)
    }
}

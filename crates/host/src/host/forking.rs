//! Copies of a running sandbox, and putting one in the place of another.

use std::sync::Arc;
use std::time::Duration;

use agent_proto::{FailureCode, Reply, Request};
use api::Source;
use futures_util::future::try_join_all;
use lifecycle::{EndReason, ForkRefused, QuotaRefused};
use pod_types::SandboxId;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::creation::Draft;
use super::registry::MergeError;
use super::room::Unserved;
use super::turns::Line;
use super::{CreateRefused, Host, Marks, NoRoom};
use crate::agent::Clock;
use crate::agent::{AgentConnection, AgentError};
use crate::auth::Tenant;
use crate::clock;
use crate::events;
use crate::metrics::{Failing, Operation};
use crate::nursery::{RaiseError, raise};
use crate::replay::{Replay, Scribe, Succession};
use crate::sandbox::{Message, Origin, RunStream, Spec, Start, Terms, Title};
use crate::tenants::TurnRefused;
use crate::vm::{CloneError, Order};

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
}

/// What a child starts with beside its VM.
struct Heir {
    replay: Arc<Replay>,
    reached: Reached,
}

/// The connection on which a child was told who it is.
enum Reached {
    Idle(AgentConnection),
    /// It follows the run that goes on in the child.
    Carried(AgentConnection, Scribe),
}

impl Heir {
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
        let created_at_ms = clock::now_ms();
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
            let heir = if busy {
                Heir::of_busy(&succession, connection)
                    .await
                    .map_err(ForkError::Carry)?
            } else {
                Heir::of_idle(&succession, connection)
            };
            Ok::<_, ForkError>((id, vm, heir))
        });
        let raising = try_join_all(raised).instrument(tracing::debug_span!("identity"));
        let children = raising.await?;
        marks.mark("identity");
        let mut known = Vec::with_capacity(children.len());
        for ((id, vm, heir), slot) in children.into_iter().zip(slots) {
            let terms = Terms {
                created_at_ms,
                ..parent.title().terms
            };
            let draft = Draft {
                title: Title { id, terms },
                slot,
                spec: parent.spec.clone(),
                origin: Origin {
                    source: Source::Fork,
                    generation: parent.origin.generation.saturating_add(1),
                    ancestry: parent.origin.ancestry.child(self.next_vm(), created_at_ms),
                },
                files: vm.home.files.clone(),
                replay: heir.replay,
            };
            let part = reservation.split(each_mib);
            let (sandbox, mailbox) = self.draw_up(draft);
            let (idle, carried) = match heir.reached {
                Reached::Idle(connection) => (Some(connection), None),
                Reached::Carried(connection, scribe) => (None, Some((connection, scribe))),
            };
            sandbox.be_born(vm.process.pid(), idle);
            let start = Start::Born(Box::new(vm));
            self.adopt(&sandbox, Some(&parent), mailbox, part, start)
                .map_err(|_: CreateRefused| ForkError::Stopping)?;
            if let Some((connection, scribe)) = carried
                && let Ok(ticket) = sandbox.begin_run()
            {
                let run = RunStream::following(Arc::clone(&sandbox), ticket, connection, scribe);
                self.background.spawn(run.write_down());
            }
            known.push(id);
        }
        Ok((known, marks))
    }

    /// What a clone of such a sandbox is taken to need of its own.
    fn clone_estimate_mib(&self, spec: &Spec) -> u64 {
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
        let old = self
            .registry()
            .merge(loser, winner, tenant)
            .inspect_err(|_| births.failed(Operation::Merge, Failing::Refused))?;
        tracing::info!(event = events::SANDBOX_MERGED, sandbox_id = %loser, winner = %winner, "sandbox merged");
        old.leave_slot();
        let mailbox = old.mailbox();
        // An owner that is busy has room for the word; if not, somebody waits for it who is not the client.
        if let Err(error) = mailbox.try_send(Message::End(EndReason::Merged)) {
            let word = error.into_inner();
            self.owners.spawn(async move { drop(mailbox.send(word).await) });
        }
        marks.mark("swap");
        births.merged();
        births.stages(Operation::Merge, marks.spans());
        Ok(marks)
    }
}

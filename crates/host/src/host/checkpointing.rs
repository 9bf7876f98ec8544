//! Keeping a state of a sandbox, and going back to it under the same id.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::{CheckpointRequest, RollbackRequest, RolledBack, Source};
use egress::Policy;
use lifecycle::{BookmarkRefused, EndReason, ForkRefused, QuotaRefused};
use pod_types::{CheckpointId, ErrorChain, IdError, SandboxId};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::creation::{Draft, NotAdopted, Place};
use super::forking::Heir;
use super::room::Unserved;
use super::turns::Line;
use super::{Host, Marks, NoRoom};
use crate::agent::{AgentError, Clock};
use crate::auth::Tenant;
use crate::checkpoints::{Checkpoint, Kept, Note, Past};
use crate::clock;
use crate::events;
use crate::metrics::{Failing, Operation};
use crate::nursery::{RaiseError, raise_as};
use crate::records::{CheckpointRecord, OriginRecord};
use crate::replay::Succession;
use crate::sandbox::{Message, Origin, Sandbox, Spec, Start};
use crate::tenants::TurnRefused;
use crate::vm::{self, CloneError, Order, Reach};

/// Why a state was not kept, or not gone back to. The sandbox is as it was in any case.
#[derive(Debug)]
pub(crate) enum CheckpointError {
    Unknown,
    /// There is no such checkpoint; the names of those there are.
    NoCheckpoint(Vec<String>),
    Refused(ForkRefused),
    Bookmark(BookmarkRefused),
    /// What kept it is gone: why.
    Lost(String),
    /// Another rollback or a merge was quicker.
    Overtaken,
    Stopping,
    Quota(QuotaRefused),
    Turn(TurnRefused),
    NoRoom(NoRoom),
    NoId(IdError),
    Clone(CloneError),
    Raise(RaiseError),
    Carry(AgentError),
    /// It cannot be written down.
    Record(io::Error),
}

impl CheckpointError {
    fn failing(&self) -> Failing {
        match self {
            Self::NoRoom(_) => Failing::NoRoom,
            Self::Stopping => Failing::Stopping,
            Self::Lost(_) | Self::Clone(_) | Self::Raise(_) | Self::Carry(_) => Failing::Vm,
            Self::NoId(_) | Self::Record(_) => Failing::Internal,
            _ => Failing::Refused,
        }
    }
}

impl From<Unserved> for CheckpointError {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::NoRoom(no_room) => Self::NoRoom(no_room),
            Unserved::Turn(refused) => Self::Turn(refused),
        }
    }
}

impl Host {
    /// Keeps what a sandbox is at this moment. Dropping this keeps nothing.
    pub(crate) async fn checkpoint(
        self: &Arc<Self>,
        id: SandboxId,
        tenant: Tenant,
        wanted: CheckpointRequest,
    ) -> Result<(Arc<Checkpoint>, Marks), CheckpointError> {
        let kept = self.keep(id, tenant, wanted).await;
        let births = &self.metrics().births;
        match &kept {
            Ok((_, marks)) => births.stages(Operation::Checkpoint, marks.spans()),
            Err(error) => births.failed(Operation::Checkpoint, error.failing()),
        }
        kept
    }

    async fn keep(
        self: &Arc<Self>,
        id: SandboxId,
        tenant: Tenant,
        wanted: CheckpointRequest,
    ) -> Result<(Arc<Checkpoint>, Marks), CheckpointError> {
        let mut marks = Marks::begin();
        let sandbox = self.find(id, tenant).ok_or(CheckpointError::Unknown)?;
        if self.is_stopping() {
            return Err(CheckpointError::Stopping);
        }
        let _foreground = self.activity.foreground();
        let _ticket = sandbox.begin_fork().map_err(CheckpointError::Refused)?;
        let own_id = CheckpointId::random().map_err(CheckpointError::NoId)?;
        let max = self.config.checkpoints_per_sandbox as usize;
        let place = sandbox.checkpoints.begin(own_id, wanted.name, max);
        let place = place.map_err(CheckpointError::Bookmark)?;
        let slots = sandbox.account.admit(self.tenants().now(), 1);
        let slot = slots.map_err(CheckpointError::Quota)?.pop();
        let slot = slot.ok_or(CheckpointError::Unknown)?;
        let line = Line::Fork(1);
        let turn = self.turns.enter(line, tenant).await;
        let turn = turn.map_err(CheckpointError::Turn)?;
        let need = self.clone_estimate_mib(&sandbox.spec);
        let (reservation, _turn) = self.room_at_turn(turn, line, need, &sandbox.account).await?;
        marks.mark("turn");
        let created_at_ms = clock::now_ms();
        let mut succession = Succession::begin(&sandbox.replay, sandbox.runs() > 0);
        let (reply, made) = oneshot::channel();
        let order = Order { count: 1, run: false };
        // An owner that is gone, or does not come to it before the end, drops the question.
        if !sandbox.tell(Message::Clone(order, reply)).await {
            return Err(CheckpointError::Unknown);
        }
        let cloning = made.instrument(tracing::debug_span!("clone"));
        let brood = cloning.await.map_err(|_| CheckpointError::Unknown)?;
        let mut brood = brood.map_err(CheckpointError::Clone)?;
        let busy = succession.look();
        marks.mark("clone");
        marks.note("paused", Duration::from_micros(brood.paused_us));
        let vm = brood.vms.pop().ok_or(CheckpointError::Unknown)?;
        let origin = Origin {
            source: Source::Rollback,
            generation: sandbox.origin.generation.saturating_add(1),
            ancestry: sandbox.origin.ancestry.child(self.next_vm(), created_at_ms),
        };
        let record = CheckpointRecord {
            id: own_id,
            name: place.name.clone(),
            created_at_ms,
            sandbox: id,
            origin: OriginRecord::from(&origin),
            busy,
            process: vm.process.name(),
            boot: vm::boot_id(),
            reserved_mib: reservation.mib(),
        };
        let files = vm.home.files.clone();
        let keeping = tokio::task::spawn_blocking(move || {
            let kept = record.keep(&succession, &files);
            kept.map(|()| succession)
        });
        let succession = keeping.await.map_err(io::Error::other).and_then(|kept| kept);
        let note = Note {
            id: own_id,
            name: place.name.clone(),
            created_at_ms,
            origin,
            past: Past {
                succession: succession.map_err(CheckpointError::Record)?,
                busy,
            },
        };
        let kept = Kept {
            vm,
            reservation,
            slot,
        };
        let checkpoint = Checkpoint::new(note, kept);
        if !place.fill(Arc::clone(&checkpoint)) {
            return Err(CheckpointError::Unknown);
        }
        tracing::info!(event = events::CHECKPOINT_MADE, sandbox_id = %id, checkpoint = %own_id, "checkpoint made");
        Ok((checkpoint, marks))
    }

    /// Puts a sandbox back to where it was at a checkpoint, which stays. Nothing has changed when this fails or is
    /// dropped.
    pub(crate) async fn roll_back(
        self: &Arc<Self>,
        id: SandboxId,
        tenant: Tenant,
        wanted: RollbackRequest,
    ) -> Result<(RolledBack, Marks), CheckpointError> {
        let done = self.go_back(id, tenant, wanted).await;
        let births = &self.metrics().births;
        match &done {
            Ok((_, marks)) => births.stages(Operation::Rollback, marks.spans()),
            Err(error) => births.failed(Operation::Rollback, error.failing()),
        }
        done
    }

    async fn go_back(
        self: &Arc<Self>,
        id: SandboxId,
        tenant: Tenant,
        wanted: RollbackRequest,
    ) -> Result<(RolledBack, Marks), CheckpointError> {
        let mut marks = Marks::begin();
        let old = self.find(id, tenant).ok_or(CheckpointError::Unknown)?;
        if self.is_stopping() {
            return Err(CheckpointError::Stopping);
        }
        let _foreground = self.activity.foreground();
        old.may_roll_back().map_err(CheckpointError::Refused)?;
        let _in_use = old.in_use();
        let found = old.checkpoints.find(wanted.checkpoint.as_deref());
        let checkpoint = found.ok_or_else(|| CheckpointError::NoCheckpoint(names(&old)))?;
        let line = Line::Fork(1);
        let turn = self.turns.enter(line, tenant).await;
        let turn = turn.map_err(CheckpointError::Turn)?;
        let need = self.clone_estimate_mib(&old.spec);
        let (reservation, _turn) = self.room_at_turn(turn, line, need, &old.account).await?;
        marks.mark("turn");
        let vm = self.revive(&checkpoint, &old).await?;
        marks.mark("clone");
        let (vm, connection) = raise_as(vm, id, Clock::WentOn, 1)
            .instrument(tracing::debug_span!("identity"))
            .await
            .map_err(CheckpointError::Raise)?;
        let Past { succession, busy } = &checkpoint.past;
        let heir = Heir::new(succession, *busy, connection)
            .await
            .map_err(CheckpointError::Carry)?;
        marks.mark("identity");
        let Heir { replay, reached } = heir;
        let wire = vm.home.wire_link();
        let draft = Draft {
            title: old.title(),
            // It comes with the id.
            slot: None,
            account: Arc::clone(&old.account),
            spec: Spec {
                egress: wire.policy().unwrap_or(Policy::Closed),
                ..old.spec.clone()
            },
            wire,
            origin: checkpoint.origin.clone(),
            files: vm.home.files.clone(),
            replay,
            checkpoints: Arc::clone(&old.checkpoints),
        };
        let (new, mailbox) = self.draw_up(draft);
        new.disk_room.unsure();
        new.inherit_network();
        let (idle, carried) = reached.split();
        new.be_born(&vm.process, idle);
        new.replay.keep_in(new.files.replay());
        new.network_is_ready().await;
        let reserved_mib = reservation.mib();
        let start = Start::Born(Box::new(vm));
        let ended_execs = old.runs();
        let place = Place::Of(&old);
        self.adopt(&new, place, mailbox, reservation, start)
            .map_err(|refused| match refused {
                NotAdopted::Stopping => CheckpointError::Stopping,
                NotAdopted::Overtaken if self.find(id, tenant).is_some() => CheckpointError::Overtaken,
                NotAdopted::Overtaken => CheckpointError::Unknown,
            })?;
        self.give_secrets(&new);
        // Only now: a daemon that is killed before this leaves the sandbox as it was.
        new.take_place_of(&old, reserved_mib);
        self.dismiss(&old, EndReason::RolledBack);
        self.carry_on(&new, carried);
        marks.mark("swap");
        let answer = RolledBack {
            checkpoint: checkpoint.describe(),
            ended_execs,
        };
        Ok((answer, marks))
    }

    /// A clone of what a checkpoint keeps, which runs. It reaches what the sandbox does now, and not what it did then.
    async fn revive(&self, checkpoint: &Checkpoint, old: &Sandbox) -> Result<vm::Vm, CheckpointError> {
        let lost = || {
            let why = checkpoint.lost().unwrap_or("it was deleted meanwhile");
            CheckpointError::Lost(why.to_owned())
        };
        let mut guard = checkpoint.open().await.ok_or_else(lost)?;
        let Some(Kept { vm, .. }) = &mut *guard else {
            return Err(lost());
        };
        let parent = vm.process.pid();
        let order = Order { count: 1, run: true };
        let (homes, spawner) = (&self.tools.homes, &*self.tools.spawner);
        let asked = (order, Reach::Of(&old.wire));
        let cloning = vm::clone_vm(&mut vm.control, parent, asked, homes, spawner);
        match cloning.instrument(tracing::debug_span!("clone")).await {
            Ok(mut brood) => brood.vms.pop().ok_or_else(lost),
            Err(error) => {
                self.tools.reaper.suspect();
                if error.is_fatal() {
                    checkpoint.lose(&mut guard, ErrorChain(&error).to_string());
                    return Err(lost());
                }
                Err(CheckpointError::Clone(error))
            }
        }
    }

    /// A sandbox's checkpoints, oldest first.
    pub(crate) fn checkpoints(
        &self,
        id: SandboxId,
        tenant: Tenant,
    ) -> Result<Vec<api::Checkpoint>, CheckpointError> {
        let sandbox = self.find(id, tenant).ok_or(CheckpointError::Unknown)?;
        Ok(sandbox.describe_checkpoints())
    }

    /// Ends a checkpoint, named by its id or its name. One that is gone, or never was, is as deleted as it can be.
    pub(crate) fn delete_checkpoint(&self, id: SandboxId, tenant: Tenant, key: &str) {
        let removed = self
            .find(id, tenant)
            .and_then(|sandbox| sandbox.checkpoints.remove(key));
        if let Some(checkpoint) = removed {
            checkpoint.forget_record();
            self.owners.spawn(async move { checkpoint.end().await });
        }
    }
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    let all = sandbox.checkpoints.all().into_iter();
    all.map(|checkpoint| checkpoint.name.clone()).collect()
}

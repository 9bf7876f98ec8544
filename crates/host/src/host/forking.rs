//! Copies of a running sandbox, and putting one in the place of another.

use std::sync::Arc;
use std::time::Duration;

use api::Source;
use futures_util::future::try_join_all;
use lifecycle::{EndReason, ForkRefused, QuotaRefused};
use pod_types::SandboxId;
use tokio::sync::oneshot;

use super::creation::Draft;
use super::registry::MergeError;
use super::room::Unserved;
use super::turns::Line;
use super::{CreateRefused, Host, Marks, NoRoom};
use crate::auth::Tenant;
use crate::clock;
use crate::nursery::{RaiseError, raise};
use crate::sandbox::{Message, Origin, Spec, Start, Terms, Title};
use crate::tenants::TurnRefused;
use crate::vm::{CloneError, Order};

/// What a clone counts for where clones of its template were never measured, in MiB.
const FIRST_ESTIMATE_MIB: u64 = 64;

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
        let (reply, made) = oneshot::channel();
        let order = Order { count, run: true };
        // An owner that is gone, or does not come to it before the end, drops the question.
        if !parent.tell(Message::Clone(order, reply)).await {
            return Err(ForkError::Unknown);
        }
        let brood = made.await.map_err(|_| ForkError::Unknown)?;
        let brood = brood.map_err(ForkError::Clone)?;
        marks.mark("clone");
        marks.note("paused", Duration::from_micros(brood.paused_us));
        let raised = try_join_all(brood.vms.into_iter().map(|vm| raise(vm, count))).await;
        let children = raised.map_err(ForkError::Raise)?;
        marks.mark("identity");
        let mut known = Vec::with_capacity(children.len());
        for ((id, vm, connection), slot) in children.into_iter().zip(slots) {
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
            };
            let part = reservation.split(each_mib);
            let (sandbox, mailbox) = self.draw_up(draft);
            sandbox.be_born(vm.process.pid(), connection);
            let start = Start::Born(Box::new(vm));
            self.adopt(&sandbox, Some(&parent), mailbox, part, start)
                .map_err(|_: CreateRefused| ForkError::Stopping)?;
            known.push(id);
        }
        tracing::debug!(timing = marks.header(), "sandbox forked");
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
        let old = self.registry().merge(loser, winner, tenant)?;
        tracing::debug!(sandbox_id = %loser, winner = %winner, "sandbox merged");
        old.leave_slot();
        let mailbox = old.mailbox();
        // An owner that is busy has room for the word; if not, somebody waits for it who is not the client.
        if let Err(error) = mailbox.try_send(Message::End(EndReason::Merged)) {
            let word = error.into_inner();
            self.owners.spawn(async move { drop(mailbox.send(word).await) });
        }
        marks.mark("swap");
        Ok(marks)
    }
}

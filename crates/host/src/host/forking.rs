//! Copies of a running sandbox, and putting one in the place of another.

use std::sync::Arc;
use std::time::Duration;

use api::Source;
use futures_util::future::try_join_all;
use lifecycle::{EndReason, ForkRefused};
use pod_types::{IdError, SandboxId};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::creation::Draft;
use super::registry::MergeError;
use super::{CreateRefused, Host};
use crate::agent::AgentConnection;
use crate::auth::Tenant;
use crate::budget::OverBudget;
use crate::clock;
use crate::sandbox::{Message, Origin, Sandbox, Start, Terms, Title};
use crate::vm::{self, BootError, CloneError, Order, Vm};

/// How long a clone may take to take on its identity. Nobody gets it before it has.
const IDENTITY_BOUND: Duration = Duration::from_secs(10);

/// Why there are no copies of a sandbox. It is unharmed in any case.
#[derive(Debug)]
pub(crate) enum ForkError {
    Unknown,
    Refused(ForkRefused),
    Stopping,
    OverBudget(OverBudget),
    NoId(IdError),
    Clone(CloneError),
    Identity(BootError),
    IdentityDeadline,
}

impl Host {
    /// Makes `count` copies of a sandbox; each has acknowledged who it is. All or none. Dropping this ends those that
    /// have been made.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        id: SandboxId,
        tenant: Tenant,
        count: u8,
    ) -> Result<Vec<Arc<Sandbox>>, ForkError> {
        let parent = self.find(id, tenant).ok_or(ForkError::Unknown)?;
        if self.is_stopping() {
            return Err(ForkError::Stopping);
        }
        let _foreground = self.activity.foreground();
        let _ticket = parent.begin_fork().map_err(ForkError::Refused)?;
        let each_mib = u64::from(parent.spec.ram_mib);
        let reservation = self.budget.reserve(each_mib * u64::from(count)).await;
        let mut reservation = reservation.map_err(ForkError::OverBudget)?;
        let (reply, made) = oneshot::channel();
        let order = Order { count, run: true };
        // An owner that is gone, or does not come to it before the end, drops the question.
        if !parent.tell(Message::Clone(order, reply)).await {
            return Err(ForkError::Unknown);
        }
        let brood = made.await.map_err(|_| ForkError::Unknown)?;
        let brood = brood.map_err(ForkError::Clone)?;
        tracing::debug!(paused_us = brood.paused_us, "sandbox cloned");
        let children = try_join_all(brood.vms.into_iter().map(introduce)).await?;
        let created_at_ms = clock::now_ms();
        let mut known = Vec::with_capacity(children.len());
        for (id, vm, connection) in children {
            let terms = Terms {
                created_at_ms,
                ..parent.title().terms
            };
            let draft = Draft {
                title: Title { id, terms },
                tenant,
                spec: parent.spec.clone(),
                origin: Origin {
                    source: Source::Fork,
                    generation: parent.origin.generation + 1,
                },
                files: vm.home.files.clone(),
            };
            let part = reservation.split(each_mib);
            let (sandbox, mailbox) = self.draw_up(draft);
            sandbox.be_born(vm.process.pid(), connection);
            let start = Start::Born(Box::new(vm));
            self.adopt(&sandbox, Some(&parent), mailbox, part, start)
                .map_err(|_: CreateRefused| ForkError::Stopping)?;
            known.push(sandbox);
        }
        Ok(known)
    }

    /// Puts the winner's VM under the loser's id. The winner's own id is unknown from now on, and the loser's VM ends
    /// in the background.
    pub(crate) fn merge(
        &self,
        loser: SandboxId,
        winner: SandboxId,
        tenant: Tenant,
    ) -> Result<(), MergeError> {
        let old = self.registry().merge(loser, winner, tenant)?;
        tracing::info!(sandbox_id = %loser, winner = %winner, "sandbox merged");
        let mailbox = old.mailbox();
        // An owner that is busy has room for the word; if not, somebody waits for it who is not the client.
        if let Err(error) = mailbox.try_send(Message::End(EndReason::Merged)) {
            let word = error.into_inner();
            self.owners.spawn(async move { drop(mailbox.send(word).await) });
        }
        Ok(())
    }
}

/// Gives a clone an identity of its own.
async fn introduce(mut vm: Vm) -> Result<(SandboxId, Vm, AgentConnection), ForkError> {
    let id = SandboxId::random().map_err(ForkError::NoId)?;
    let told = vm::introduce(&mut vm.process, &mut vm.control, &vm.home.files, id);
    match timeout(IDENTITY_BOUND, told).await {
        Ok(Ok(connection)) => Ok((id, vm, connection)),
        Ok(Err(error)) => Err(ForkError::Identity(error)),
        Err(_) => Err(ForkError::IdentityDeadline),
    }
}

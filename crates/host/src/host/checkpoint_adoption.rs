//! Checkpoints that a daemon that is gone has left: their VMs stand still, so there is nobody to ask in them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use pod_types::{ErrorChain, SandboxId};
use thiserror::Error;
use tokio::time::timeout;
use vmm_proto::VmState;

use super::Host;
use super::adoption::{ANSWER_BOUND, AT_ONCE, AdoptError, Tickets, origin_of};
use crate::checkpoints::{Checkpoint, Kept, Note, Past};
use crate::events;
use crate::records::{Bookmark, CheckpointRecord};
use crate::replay::{KeptError, Succession};
use crate::sandbox::Sandbox;
use crate::vm::{Control, ControlError, Home, Vm};

/// Why a checkpoint could not be taken over. Its VM ends; the sandbox has the others.
#[derive(Debug, Error)]
enum RecallError {
    #[error("its sandbox is not there any more")]
    NoSandbox,
    #[error("its record names no ancestry")]
    NoAncestry,
    #[error("its process is of no use")]
    Process(#[source] AdoptError),
    #[error("its control socket is of no use")]
    Control(#[source] ControlError),
    #[error("its VM does not stand still")]
    Moving,
    #[error("what the sandbox's runs had said cannot be read")]
    Past(#[source] io::Error),
    #[error("what the sandbox's runs had said is of no use")]
    Replay(#[source] KeptError),
}

impl Host {
    /// After all sandboxes. Gives the number of those that can be gone back to.
    pub(super) async fn take_over_checkpoints(
        self: &Arc<Self>,
        bookmarks: Vec<(Bookmark, Tickets)>,
        former: &HashMap<SandboxId, SandboxId>,
    ) -> usize {
        let reaching = bookmarks.into_iter().map(|(bookmark, tickets)| async move {
            let Bookmark { name, record } = bookmark;
            let home = self.tools.homes.existing(name);
            let reached = self.reach_checkpoint(&record, home).await;
            // Until then the reaper would have ended it.
            drop(tickets);
            (record, reached)
        });
        // In their order, which is that of their making.
        let mut reaching = stream::iter(reaching).buffered(AT_ONCE);
        let mut count = 0;
        while let Some((record, reached)) = reaching.next().await {
            let (id, sandbox) = (record.id, record.sandbox);
            match reached.and_then(|(vm, past)| self.place_checkpoint(record, vm, past, former)) {
                Ok(()) => {
                    count += 1;
                    tracing::info!(event = events::CHECKPOINT_ADOPTED, sandbox_id = %sandbox, checkpoint = %id, "checkpoint taken over");
                }
                Err(error) => {
                    tracing::warn!(sandbox_id = %sandbox, checkpoint = %id, error = %ErrorChain(&error), "a checkpoint is lost");
                }
            }
        }
        count
    }

    /// Finds out that the VM is there, and reads what belongs to it.
    async fn reach_checkpoint(
        &self,
        record: &CheckpointRecord,
        home: Home,
    ) -> Result<(Vm, Past), RecallError> {
        let process = self.open_process(record.process).map_err(RecallError::Process)?;
        let path = home.files.past();
        let read = tokio::task::spawn_blocking(move || fs::read(path)).await;
        let read = read.map_err(io::Error::other).and_then(|read| read);
        let past = match read.map_err(RecallError::Past) {
            Ok(bytes) => Succession::read(&bytes).map_err(RecallError::Replay),
            Err(error) => Err(error),
        };
        let asked = timeout(ANSWER_BOUND, stands_still(&home)).await;
        let asked = asked.unwrap_or(Err(RecallError::Control(ControlError::Silent(ANSWER_BOUND))));
        match (past, asked) {
            (Ok(succession), Ok(control)) => {
                let vm = Vm {
                    process,
                    control,
                    home,
                };
                let busy = record.busy;
                Ok((vm, Past { succession, busy }))
            }
            (Err(error), _) | (_, Err(error)) => {
                process.end().await;
                Err(error)
            }
        }
    }

    fn place_checkpoint(
        &self,
        record: CheckpointRecord,
        vm: Vm,
        past: Past,
        former: &HashMap<SandboxId, SandboxId>,
    ) -> Result<(), RecallError> {
        let known_as = former.get(&record.sandbox).unwrap_or(&record.sandbox);
        let sandbox: Option<Arc<Sandbox>> = self.registry().get(*known_as).cloned();
        let sandbox = sandbox.ok_or(RecallError::NoSandbox)?;
        let origin = origin_of(&record.origin).ok_or(RecallError::NoAncestry)?;
        let place = sandbox
            .checkpoints
            .begin(record.id, Some(record.name), usize::MAX);
        let place = place.map_err(|_| RecallError::NoSandbox)?;
        let note = Note {
            id: record.id,
            name: place.name.clone(),
            created_at_ms: record.created_at_ms,
            origin,
            past,
        };
        let kept = Kept {
            vm,
            reservation: self.budget.take_anyway(record.reserved_mib),
            slot: sandbox.account.readmit(),
        };
        if place.fill(Checkpoint::new(note, kept)) {
            Ok(())
        } else {
            Err(RecallError::NoSandbox)
        }
    }
}

async fn stands_still(home: &Home) -> Result<Control, RecallError> {
    let connected = Control::connect_now(&home.files.control_socket()).await;
    let mut control = connected.map_err(RecallError::Control)?;
    let stats = control.stats().await.map_err(RecallError::Control)?;
    match stats.state {
        VmState::Paused => Ok(control),
        VmState::Running | VmState::Unstarted => Err(RecallError::Moving),
    }
}

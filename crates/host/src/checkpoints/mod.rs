//! States of sandboxes that they can be rolled back to.
//!
//! ```text
//!  sandbox ──clone, not run──▶ Checkpoint: a paused VM that nobody has spoken to
//!                                  │ rollback: clone, run, identity
//!                                  └──────────▶ VM that takes the sandbox's place under its id; the checkpoint stays
//! ```
//!
//! A checkpoint shares its memory with the sandbox until that writes. It belongs to the sandbox: whatever VM is under the
//! id after a rollback has the same ones, and when the sandbox ends, they do. Nobody watches its process; that it is gone
//! is noticed when somebody looks.

mod set;

use std::sync::{Arc, OnceLock};

use api::CheckpointState;
use futures_util::FutureExt as _;
use pod_types::CheckpointId;
use tokio::sync::{Mutex, MutexGuard};

use crate::budget::Reservation;
use crate::records;
use crate::replay::Succession;
use crate::sandbox::Origin;
use crate::tenants::Slot;
use crate::vm::{Vm, VmFiles};

pub(crate) use set::Checkpoints;

pub(crate) struct Checkpoint {
    pub(crate) id: CheckpointId,
    pub(crate) name: String,
    pub(crate) created_at_ms: u64,
    /// Where its VM comes from.
    pub(crate) origin: Origin,
    /// What the sandbox's runs had said by then.
    pub(crate) past: Past,
    kept: Mutex<Option<Kept>>,
    files: VmFiles,
    /// Why it is of no use any more.
    lost: OnceLock<String>,
}

/// The replay of a sandbox at a checkpoint.
pub(crate) struct Past {
    pub(crate) succession: Succession,
    /// Whether a run may have been in progress.
    pub(crate) busy: bool,
}

/// What a checkpoint takes up.
pub(crate) struct Kept {
    pub(crate) vm: Vm,
    pub(crate) reservation: Reservation,
    /// It counts as one of its tenant's sandboxes.
    pub(crate) slot: Slot,
}

/// What is settled about a checkpoint before it is kept.
pub(crate) struct Note {
    pub(crate) id: CheckpointId,
    pub(crate) name: String,
    pub(crate) created_at_ms: u64,
    pub(crate) origin: Origin,
    pub(crate) past: Past,
}

impl Checkpoint {
    pub(crate) fn new(note: Note, kept: Kept) -> Arc<Self> {
        let Note {
            id,
            name,
            created_at_ms,
            origin,
            past,
        } = note;
        Arc::new(Self {
            id,
            name,
            created_at_ms,
            origin,
            past,
            files: kept.vm.home.files.clone(),
            kept: Mutex::new(Some(kept)),
            lost: OnceLock::new(),
        })
    }

    /// What it keeps, if that is still there. One at a time: its VM answers one after the other.
    pub(crate) async fn open(&self) -> Option<MutexGuard<'_, Option<Kept>>> {
        let mut kept = self.kept.lock().await;
        self.check(&mut kept);
        kept.is_some().then_some(kept)
    }

    /// Its VM is of no use any more.
    pub(crate) fn lose(&self, kept: &mut Option<Kept>, why: String) {
        tracing::warn!(checkpoint = %self.id, why, "a checkpoint is lost");
        drop(self.lost.set(why));
        // The process is killed, and everything it had comes back.
        *kept = None;
    }

    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// As clients see it, after a look whether its process is still there.
    pub(crate) fn describe(&self) -> api::Checkpoint {
        // Whoever holds it has looked.
        if let Ok(mut kept) = self.kept.try_lock() {
            self.check(&mut kept);
        }
        let lost = self.lost().map(str::to_owned);
        api::Checkpoint {
            id: self.id,
            name: self.name.clone(),
            created_at_ms: self.created_at_ms,
            state: match lost {
                None => CheckpointState::Ready,
                Some(_) => CheckpointState::Lost,
            },
            error: lost,
        }
    }

    /// No daemon that comes after this one will know it.
    pub(crate) fn forget_record(&self) {
        if let Err(error) = records::remove(&self.files.checkpoint()) {
            tracing::error!(checkpoint = %self.id, %error, "cannot remove the record of a checkpoint");
        }
    }

    /// Ends it, and waits until its process is gone.
    pub(crate) async fn end(&self) {
        let kept = self.kept.lock().await.take();
        if let Some(Kept {
            vm,
            mut reservation,
            slot,
        }) = kept
        {
            drop(slot);
            reservation.end();
            vm.end().await;
        }
    }

    fn check(&self, kept: &mut Option<Kept>) {
        let exited = kept
            .as_mut()
            .and_then(|kept| kept.vm.process.exited().now_or_never());
        if let Some(how) = exited {
            self.lose(kept, format!("the VM process that kept it {how}"));
        }
    }
}

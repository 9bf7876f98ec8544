//! The checkpoints of one sandbox.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifecycle::{BookmarkRefused, Bookmarks};
use pod_types::CheckpointId;

use super::Checkpoint;

/// They go with the id of the sandbox: its VM may be another after a rollback.
#[derive(Default)]
pub(crate) struct Checkpoints(Mutex<Bookmarks<CheckpointId, Arc<Checkpoint>>>);

/// Room for one that is being saved; given back when dropped.
pub(crate) struct Place {
    set: Arc<Checkpoints>,
    pub(crate) id: CheckpointId,
    pub(crate) name: String,
}

impl Checkpoints {
    pub(crate) fn begin(
        self: &Arc<Self>,
        id: CheckpointId,
        name: Option<String>,
        max: usize,
    ) -> Result<Place, BookmarkRefused> {
        let name = self.marks().begin(id, name, max)?;
        Ok(Place {
            set: Arc::clone(self),
            id,
            name,
        })
    }

    /// By id or name; the latest when there is none.
    pub(crate) fn find(&self, key: Option<&str>) -> Option<Arc<Checkpoint>> {
        match key {
            Some(key) => self.marks().find(key),
            None => self.marks().latest(),
        }
    }

    pub(crate) fn remove(&self, key: &str) -> Option<Arc<Checkpoint>> {
        self.marks().remove(key)
    }

    /// Oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Checkpoint>> {
        self.marks().all()
    }

    /// The sandbox has ended, and its checkpoints with it.
    pub(crate) async fn close(&self) {
        let all = self.marks().close();
        for checkpoint in all {
            checkpoint.end().await;
        }
    }

    fn marks(&self) -> MutexGuard<'_, Bookmarks<CheckpointId, Arc<Checkpoint>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Puts it there. False when the sandbox has ended meanwhile.
    pub(crate) fn fill(self, checkpoint: Arc<Checkpoint>) -> bool {
        self.set.marks().finish(self.id, checkpoint).is_ok()
    }
}

impl Drop for Place {
    /// One that was filled stays.
    fn drop(&mut self) {
        self.set.marks().abandon(self.id);
    }
}

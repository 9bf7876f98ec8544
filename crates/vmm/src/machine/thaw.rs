//! A VM that goes on where it was frozen.

use vmm_proto::ThawConfig;

use super::restore::{Parts, RestoreError};
use super::{Origin, Prepared, VmState};
use crate::events::EventSender;
use crate::freeze::Thawed;
use crate::memory::{self, GuestMemory};
use crate::snapshot::{Fingerprint, SnapshotId};
use crate::working_set::{self, WorkingSet};

impl Prepared {
    /// Builds the VM of a space, and says what KVM holds of it.
    pub(crate) fn thaw(config: &ThawConfig, events: &EventSender) -> Result<(Self, VmState), RestoreError> {
        let restore = &config.restore;
        let thawed =
            Thawed::open(&config.space, &restore.snapshot, config.size).map_err(RestoreError::Thaw)?;
        let Thawed {
            document,
            base,
            memory,
            overlay,
            disk,
        } = thawed;
        let origin = base.map(|id| Origin {
            id,
            working_set: working_set(config, &memory, id),
        });
        let set = origin.as_ref().and_then(|origin| origin.working_set.as_ref());
        if let Some(set) = set {
            working_set::populate(set, &memory);
        }
        let parts = Parts {
            document,
            memory,
            overlay,
            disk,
            origin,
            runs: true,
        };
        Self::rebuild(restore, events, parts, Fingerprint::check_cpu)
    }
}

/// That of the template: what every first answer needs. Without it the first answer is slower and otherwise the same.
fn working_set(config: &ThawConfig, memory: &GuestMemory, id: SnapshotId) -> Option<WorkingSet> {
    let pages = u64::from(memory::size_mib(memory)) << 8;
    let path = config.restore.working_set.as_ref()?;
    WorkingSet::open(path, id, pages).ok()
}

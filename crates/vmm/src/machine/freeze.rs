//! Writing a VM to files that outlive it.

use std::time::Instant;

use vmm_proto::FreezeReport;

use super::{Machine, VmState};
use crate::freeze::{self, Files, FreezeError};
use crate::snapshot::SnapshotId;

impl Machine {
    /// Writes the VM. Its vCPUs stand still, in the state given.
    pub(crate) fn freeze(&self, vm: &VmState, files: &Files) -> Result<FreezeReport, FreezeError> {
        let begun = Instant::now();
        let id = SnapshotId::new().map_err(FreezeError::Id)?;
        let delta = freeze::write_memory(&self.memory, &self.overlay, files)?;
        let disk_begun = Instant::now();
        let document = self.document(id, vm, &files.disk).map_err(FreezeError::Disk)?;
        let base = self.origin.as_ref().map(|origin| origin.id);
        freeze::write_state(files, document, base, delta, (begun, disk_begun))
    }
}

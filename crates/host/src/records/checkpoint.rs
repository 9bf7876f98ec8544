//! What a checkpoint is, written down beside the VM that keeps it.
//!
//! It is a record of its own because its VM has a directory of its own: a daemon that comes after this one finds the
//! sandbox first, and then what it can go back to. One whose sandbox is not found ends with it.

use std::fs;
use std::io;

use pod_types::{CheckpointId, SandboxId};
use serde::{Deserialize, Serialize};

use super::codec::Kept;
use super::{OriginRecord, keep};
use crate::replay::Succession;
use crate::vm::{ProcessName, VmFiles};

/// All that a daemon needs to know of a checkpoint that it has not made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    pub(crate) id: CheckpointId,
    pub(crate) name: String,
    pub(crate) created_at_ms: u64,
    /// What it is a state of, by the id it had then.
    pub(crate) sandbox: SandboxId,
    pub(crate) origin: OriginRecord,
    /// Whether a run may have been in progress.
    pub(crate) busy: bool,
    pub(crate) process: ProcessName,
    /// The machine's start in which the process was started.
    pub(crate) boot: String,
    /// What it counts for in the budget.
    pub(crate) reserved_mib: u64,
}

impl Kept for CheckpointRecord {
    const MAGIC: &'static str = "podflare-checkpoint";
}

impl CheckpointRecord {
    /// Writes it down, and first what belongs to it: there is a checkpoint once its record is there.
    pub(crate) fn keep(&self, past: &Succession, files: &VmFiles) -> io::Result<()> {
        fs::write(files.past(), past.write())?;
        keep::write(&files.checkpoint(), self)
    }
}

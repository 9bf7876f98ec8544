//! What a running sandbox is, written down beside its VM, so that a daemon that comes after this one can take it over.
//!
//! ```text
//!  vms/17/record      this sandbox: its id, terms, spec, origin, and which process its VM is
//!  vms/17/record.new  the same, being written
//!  vms/18/checkpoint  a checkpoint: its id, name, and sandbox, and which process keeps it
//!  vms/18/past        what the sandbox's runs had said by then
//! ```
//!
//! A record is written before a client learns that the sandbox exists, and removed before it learns that it does not any
//! more. It is renamed into place and not synced: it has to outlive the daemon and not the machine, whose end is the end
//! of every VM on it. Whatever has no record (VMs that wait in pools, zygotes, clones that nobody was told of) ends with
//! its daemon.
//!
//! **A merge** changes one record: the winner's takes the loser's id, with a higher [claim](Record::claim) on it. From the
//! rename on the winner is the sandbox of that id, whether or not the loser's record is gone yet. Children name their
//! parent by an id that it may have lost that way, so a record has [those](Record::also), too.

mod checkpoint;
mod codec;
mod find;
mod keep;

use egress::Policy;
use pod_types::SandboxId;
use serde::{Deserialize, Serialize};

use crate::sandbox::{Origin, Terms};
use crate::vm::ProcessName;
use codec::Kept;

pub(crate) use checkpoint::CheckpointRecord;
pub(crate) use find::{Bookmark, Found, Orphan, sort_out};
pub(crate) use keep::{read, remove, write};

/// Former ids that are remembered, newest first to go last.
pub(crate) const ALSO_MAX: usize = 64;

/// All that a daemon needs to know of a sandbox that it has not made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: SandboxId,
    pub(crate) tenant: i64,
    pub(crate) terms: Terms,
    pub(crate) spec: SpecRecord,
    pub(crate) origin: OriginRecord,
    /// What it was forked from, by the id it had then.
    pub(crate) parent: Option<SandboxId>,
    /// Ids that its VM, and those whose place it has taken, were known by before.
    pub(crate) also: Vec<SandboxId>,
    /// Of two records with one id the one with the higher claim is the sandbox.
    pub(crate) claim: u64,
    /// None once it has failed.
    pub(crate) process: Option<ProcessName>,
    /// The machine's start in which the process was started.
    pub(crate) boot: String,
    /// What it counts for in the budget.
    pub(crate) reserved_mib: u64,
    pub(crate) failed: Option<FailureRecord>,
}

impl Kept for Record {
    const MAGIC: &'static str = "podflare-sandbox";

    fn check(&self) -> Result<(), &'static str> {
        if self.also.len() > ALSO_MAX {
            return Err("it has more former ids than are ever kept");
        }
        if self.process.is_none() && self.failed.is_none() {
            return Err("it has no process and has not failed");
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SpecRecord {
    pub(crate) template: String,
    pub(crate) vcpus: u8,
    pub(crate) ram_mib: u32,
    pub(crate) rootfs_gb: u32,
    pub(crate) egress: Policy,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<String>,
    /// The number of its wire, by which a network process knows it that goes on when its daemon does not.
    #[serde(default)]
    pub(crate) wire: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OriginRecord {
    pub(crate) source: api::Source,
    pub(crate) generation: u32,
    /// See [`lifecycle::Ancestry::links`].
    pub(crate) ancestry: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FailureRecord {
    pub(crate) why: String,
    /// The guest's last words on its console.
    pub(crate) words: String,
}

impl From<&Origin> for OriginRecord {
    fn from(origin: &Origin) -> Self {
        Self {
            source: origin.source,
            generation: origin.generation,
            ancestry: origin.ancestry.links().collect(),
        }
    }
}

//! What is written down of a sandbox for the daemon that comes after this one.

use std::io;
use std::sync::MutexGuard;

use pod_types::{ErrorChain, SandboxId};

use super::handle::{Sandbox, lock};
use crate::records::{self, ALSO_MAX, FailureRecord, OriginRecord, Record, SpecRecord};
use crate::vm::{ProcessName, boot_id};

/// What only the record has; the rest of it is the sandbox's own.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(super) process: Option<ProcessName>,
    parent: Option<SandboxId>,
    also: Vec<SandboxId>,
    claim: u64,
    reserved_mib: u64,
    failed: Option<FailureRecord>,
    /// Whether there is a record, or is to be one.
    kept: bool,
}

impl Sandbox {
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        lock(&self.standing)
    }

    /// Writes its record for the first time: from now on it outlives the daemon.
    pub(crate) fn begin_record(&self, parent: Option<SandboxId>, reserved_mib: u64) -> io::Result<()> {
        {
            let mut standing = self.standing();
            (standing.parent, standing.reserved_mib) = (parent, reserved_mib);
            standing.kept = true;
        }
        self.write_record()
    }

    /// It has been taken over with this record.
    pub(crate) fn take_record(&self, record: Record) {
        let mut standing = self.standing();
        standing.process = record.process;
        standing.parent = record.parent;
        standing.also = record.also;
        standing.claim = record.claim;
        standing.reserved_mib = record.reserved_mib;
        standing.failed = record.failed;
        standing.kept = true;
    }

    /// Writes down what it is by now. To be called after any change of its title, before anybody is told.
    pub(crate) fn write_record(&self) -> io::Result<()> {
        // Held while writing, so that of two changes the later one is written last.
        let standing = self.standing();
        if !standing.kept {
            return Ok(());
        }
        records::write(&self.files.record(), &self.record(&standing))
    }

    /// It has taken the place of another, and stands in the lineage where that one stood.
    pub(crate) fn succeed(&self, old: &Self, former: SandboxId, parent: Option<SandboxId>) -> io::Result<()> {
        let (claim, theirs) = {
            let old = old.standing();
            (old.claim, old.also.clone())
        };
        {
            let mut standing = self.standing();
            standing.parent = parent;
            standing.claim = standing.claim.max(claim) + 1;
            standing.also.push(former);
            standing.also.extend(theirs);
            let excess = standing.also.len().saturating_sub(ALSO_MAX);
            standing.also.drain(..excess);
        }
        self.write_record()
    }

    /// It is an earlier state of another, and is the sandbox from now on.
    pub(crate) fn take_place_of(&self, old: &Self, reserved_mib: u64) {
        let (parent, also, claim) = {
            let old = old.standing();
            (old.parent, old.also.clone(), old.claim)
        };
        {
            let mut standing = self.standing();
            (standing.parent, standing.also, standing.claim) = (parent, also, claim + 1);
            standing.reserved_mib = reserved_mib;
            standing.kept = true;
        }
        self.try_write_record();
    }

    /// Its terms are others.
    pub(crate) fn note_change(&self) {
        self.try_write_record();
    }

    /// Its parent is known by another id.
    pub(crate) fn now_child_of(&self, parent: SandboxId) {
        self.standing().parent = Some(parent);
        self.try_write_record();
    }

    /// It has failed, and stays known.
    pub(super) fn record_failure(&self, why: &str, words: &str) {
        {
            let mut standing = self.standing();
            standing.process = None;
            standing.failed = Some(FailureRecord {
                why: why.to_owned(),
                words: words.to_owned(),
            });
        }
        self.try_write_record();
    }

    /// It is over: no other daemon shall take it for alive.
    pub(crate) fn forget_record(&self) {
        let mut standing = self.standing();
        if !std::mem::take(&mut standing.kept) {
            return;
        }
        if let Err(error) = records::remove(&self.files.record()) {
            tracing::error!(sandbox_id = %self.id(), %error, "cannot remove the record of a sandbox");
        }
    }

    fn try_write_record(&self) {
        if let Err(error) = self.write_record() {
            tracing::error!(sandbox_id = %self.id(), error = %ErrorChain(&error), "cannot write down what a sandbox is");
        }
    }

    fn record(&self, standing: &Standing) -> Record {
        let title = self.title();
        Record {
            id: title.id,
            tenant: self.tenant.0,
            terms: title.terms,
            spec: SpecRecord {
                template: self.spec.template.name.clone(),
                vcpus: self.spec.vcpus,
                ram_mib: self.spec.ram_mib,
                rootfs_gb: self.spec.rootfs_gb,
                egress: self.egress(),
                secrets: self.spec.secrets.clone(),
                wire: Some(self.wire.id()),
            },
            origin: OriginRecord::from(&self.origin),
            parent: standing.parent,
            also: standing.also.clone(),
            claim: standing.claim,
            process: standing.process,
            boot: boot_id(),
            reserved_mib: standing.reserved_mib,
            failed: standing.failed.clone(),
        }
    }
}

//! Which sandbox is known under which id, and who was forked from whom.

use std::collections::HashMap;
use std::sync::Arc;

use api::SandboxInfo;
use lifecycle::{Lineage, MergeRefused};
use pod_types::SandboxId;

use crate::auth::Tenant;
use crate::sandbox::{Sandbox, Title};

#[derive(Default)]
pub(super) struct Registry {
    sandboxes: HashMap<SandboxId, Arc<Sandbox>>,
    lineage: Lineage<SandboxId>,
}

/// Why one sandbox does not take the place of another.
#[derive(Debug)]
pub(crate) enum MergeError {
    /// One of them is unknown to this tenant.
    Unknown,
    Refused(MergeRefused),
}

impl Registry {
    /// Makes a sandbox known. Its parent is named by what it is known as now, which a merge may have changed since
    /// the fork began.
    pub(super) fn add(&mut self, sandbox: Arc<Sandbox>, parent: Option<&Sandbox>) {
        let id = sandbox.id();
        self.lineage.add(id, parent.map(Sandbox::id));
        self.sandboxes.insert(id, sandbox);
    }

    /// A tenant's sandbox; another tenant's is as unknown as one that never was.
    pub(super) fn find(&self, id: SandboxId, tenant: Tenant) -> Option<&Arc<Sandbox>> {
        self.sandboxes
            .get(&id)
            .filter(|sandbox| tenant.may_see(sandbox.tenant))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.sandboxes.values()
    }

    /// Forgets a tenant's sandbox.
    pub(super) fn remove(&mut self, id: SandboxId, tenant: Tenant) -> Option<Arc<Sandbox>> {
        self.find(id, tenant)?;
        self.lineage.remove(id);
        self.sandboxes.remove(&id)
    }

    /// Forgets this sandbox, unless another has taken its place already.
    pub(super) fn forget(&mut self, sandbox: &Arc<Sandbox>) {
        let id = sandbox.id();
        if self
            .sandboxes
            .get(&id)
            .is_some_and(|known| Arc::ptr_eq(known, sandbox))
        {
            self.lineage.remove(id);
            self.sandboxes.remove(&id);
        }
    }

    pub(super) fn drain(&mut self) -> Vec<Arc<Sandbox>> {
        self.lineage = Lineage::default();
        self.sandboxes.drain().map(|(_, sandbox)| sandbox).collect()
    }

    /// Puts the winner in the loser's place, and gives the loser, which nobody knows any more. The terms agreed on
    /// with the client stay with the id: merging does not make a sandbox live longer.
    pub(super) fn merge(
        &mut self,
        loser: SandboxId,
        winner: SandboxId,
        tenant: Tenant,
    ) -> Result<Arc<Sandbox>, MergeError> {
        if loser == winner {
            return Err(MergeError::Refused(MergeRefused::Itself));
        }
        let old = Arc::clone(self.find(loser, tenant).ok_or(MergeError::Unknown)?);
        let new = Arc::clone(self.find(winner, tenant).ok_or(MergeError::Unknown)?);
        old.may_yield_to(&new).map_err(|refused| match refused {
            MergeRefused::LoserEnded | MergeRefused::WinnerEnded => MergeError::Unknown,
            other => MergeError::Refused(other),
        })?;
        new.rename(Title {
            id: loser,
            terms: old.title().terms,
        });
        self.sandboxes.remove(&winner);
        self.sandboxes.insert(loser, new);
        self.lineage.merge(loser, winner);
        Ok(old)
    }

    /// What is known of a sandbox, its relatives included.
    pub(super) fn describe(&self, sandbox: &Sandbox) -> SandboxInfo {
        let info = sandbox.info();
        SandboxInfo {
            parent: self.lineage.parent(info.id),
            children: self.lineage.children(info.id),
            ..info
        }
    }
}

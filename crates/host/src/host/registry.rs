//! Which sandbox is known under which id, and who was forked from whom.

use std::collections::HashMap;
use std::io;
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
    /// It is done, and could not be written down for the daemon after this one.
    Record(io::Error),
}

/// What a merge has made of the sandboxes around it.
pub(super) struct Merged {
    /// Nobody knows it any more.
    pub(super) old: Arc<Sandbox>,
    pub(super) new: Arc<Sandbox>,
    /// Of the new one.
    pub(super) parent: Option<SandboxId>,
    /// Those whose parent was known by another id until now.
    pub(super) children: Vec<Arc<Sandbox>>,
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

    /// Whoever's it is.
    pub(super) fn get(&self, id: SandboxId) -> Option<&Arc<Sandbox>> {
        self.sandboxes.get(&id)
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

    /// Forgets this sandbox, unless another has taken its place already, or it is unknown: true when it was known.
    pub(super) fn forget(&mut self, sandbox: &Arc<Sandbox>) -> bool {
        let id = sandbox.id();
        let is_known = |known: &Arc<Sandbox>| Arc::ptr_eq(known, sandbox);
        let known = self.sandboxes.get(&id).is_some_and(is_known);
        if known {
            self.lineage.remove(id);
            self.sandboxes.remove(&id);
        }
        known
    }

    pub(super) fn drain(&mut self) -> Vec<Arc<Sandbox>> {
        self.lineage = Lineage::default();
        self.sandboxes.drain().map(|(_, sandbox)| sandbox).collect()
    }

    /// Puts the winner in the loser's place. The terms agreed on
    /// with the client stay with the id: merging does not make a sandbox live longer.
    pub(super) fn merge(
        &mut self,
        loser: SandboxId,
        winner: SandboxId,
        tenant: Tenant,
    ) -> Result<Merged, MergeError> {
        if loser == winner {
            return Err(MergeError::Refused(MergeRefused::Itself));
        }
        let old = Arc::clone(self.find(loser, tenant).ok_or(MergeError::Unknown)?);
        let new = Arc::clone(self.find(winner, tenant).ok_or(MergeError::Unknown)?);
        old.may_yield_to(&new).map_err(|refused| match refused {
            MergeRefused::LoserEnded | MergeRefused::WinnerEnded => MergeError::Unknown,
            other => MergeError::Refused(other),
        })?;
        new.touch();
        new.rename(Title {
            id: loser,
            terms: old.title().terms,
        });
        let children = self.lineage.children(winner);
        self.sandboxes.remove(&winner);
        self.sandboxes.insert(loser, Arc::clone(&new));
        self.lineage.merge(loser, winner);
        let children = children.iter().filter(|child| **child != loser);
        Ok(Merged {
            old,
            new,
            parent: self.lineage.parent(loser),
            children: children
                .filter_map(|child| self.sandboxes.get(child).cloned())
                .collect(),
        })
    }

    /// Who it was forked from, which a daemon before this one has written down.
    pub(super) fn recall(&mut self, id: SandboxId, parent: Option<SandboxId>) {
        self.lineage.add(id, parent);
    }

    /// Puts an earlier state of a sandbox in its place: id, terms and room stay. False when the sandbox is not the one
    /// known under its id any more.
    pub(super) fn replace(&mut self, old: &Arc<Sandbox>, new: Arc<Sandbox>) -> bool {
        let title = old.title();
        let is_known = self
            .sandboxes
            .get(&title.id)
            .is_some_and(|known| Arc::ptr_eq(known, old));
        if !is_known || old.may_roll_back().is_err() {
            return false;
        }
        new.rename(title);
        new.take_slot(old);
        self.sandboxes.insert(title.id, new);
        true
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

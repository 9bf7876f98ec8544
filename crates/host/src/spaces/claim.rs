//! A space in somebody's hand. There is one at most, so of two who want to resume it one is refused.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pod_types::{SandboxId, SpaceId};

use super::base_sums::BaseError;
use super::draft::{BASE, REPLAY, VM};
use super::meta::digest;
use super::templates::TemplateMemory;
use super::{GONE, Meta, NoSpace, RESUMED, Spaces, rename, with_end};
use crate::auth::Tenant;

/// Dropping it puts the space back.
#[derive(Debug)]
pub(crate) struct Claim {
    spaces: Arc<Spaces>,
    pub(crate) meta: Arc<Meta>,
}

/// A space that has been resumed: its directory is still there, and nobody finds it.
#[derive(Debug)]
pub(crate) struct Consumed {
    claim: Claim,
    dir: PathBuf,
}

impl Claim {
    /// Takes a tenant's space in hand.
    pub(crate) fn take(spaces: &Arc<Spaces>, id: SpaceId, tenant: Tenant) -> Result<Self, NoSpace> {
        let mut entries = spaces.entries();
        let entry = entries
            .get_mut(&id)
            .filter(|entry| entry.is_of(tenant))
            .ok_or(NoSpace::Unknown)?;
        if std::mem::replace(&mut entry.busy, true) {
            return Err(NoSpace::Busy);
        }
        Ok(Self {
            spaces: Arc::clone(spaces),
            meta: Arc::clone(&entry.meta),
        })
    }

    /// Directory of the space.
    pub(crate) fn dir(&self) -> PathBuf {
        self.spaces.path(self.meta.id)
    }

    /// Where the VM's files are.
    pub(crate) fn vm(&self) -> PathBuf {
        self.dir().join(VM)
    }

    /// The memory that its own lies over, if there is one and it is here.
    pub(crate) fn base(&self) -> Option<TemplateMemory> {
        let base = self.meta.base.as_ref()?;
        if self.meta.own_base_bytes.is_none() {
            return self.spaces.template(base);
        }
        let dir = self.dir().join(BASE);
        Some(TemplateMemory {
            dir,
            working_set: None,
        })
    }

    /// Whether that memory is what it was.
    pub(crate) fn check_base(&self, base: &TemplateMemory) -> Result<(), BaseError> {
        self.spaces.check_base(base)
    }

    /// What its runs have said, if it is what was written.
    pub(crate) fn replay(&self) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.dir().join(REPLAY))?;
        if digest(&bytes) == self.meta.replay {
            Ok(bytes)
        } else {
            let text = "what its runs have said is damaged";
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }

    /// It has become this sandbox: from here on it is not there any more, also after a crash that the sandbox survives.
    pub(crate) fn consume(self, sandbox: SandboxId) -> Result<Consumed, (Self, io::Error)> {
        let (from, to) = (self.dir(), with_end(&self.dir(), &format!("{RESUMED}{sandbox}")));
        match rename(&from, &to) {
            Ok(()) => {
                self.spaces.entries().remove(&self.meta.id);
                Ok(Consumed { claim: self, dir: to })
            }
            Err(error) => Err((self, error)),
        }
    }

    /// Removes it. It is unknown when this returns.
    pub(crate) fn remove(self) -> io::Result<()> {
        let gone = with_end(&self.dir(), GONE);
        rename(&self.dir(), &gone)?;
        self.spaces.entries().remove(&self.meta.id);
        fs::remove_dir_all(gone)
    }
}

impl Consumed {
    /// Nothing came of it after all.
    pub(crate) fn put_back(self) -> io::Result<()> {
        let Self { claim, dir } = self;
        rename(&dir, &claim.dir())?;
        let entry = super::Entry {
            meta: Arc::clone(&claim.meta),
            busy: false,
        };
        claim.spaces.entries().insert(claim.meta.id, entry);
        Ok(())
    }

    /// Removes the files. Takes as long as the file system takes.
    pub(crate) fn remove(self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::error!(%error, dir = %self.dir.display(), "cannot remove a space that was resumed");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(entry) = self.spaces.entries().get_mut(&self.meta.id) {
            entry.busy = false;
        }
    }
}

//! Sandboxes on disk: everything that is left of one that was frozen, until it is resumed or removed.
//!
//! ```text
//!  <data>/spaces/<spc_id>/meta        what it is, one line of JSON and its digest
//!                        /replay      what its runs have said
//!                        /vm/…        memory, disk and state, as the VM process has written them
//!                        /base/memory that of a template of another host, if it came with the space
//!               <spc_id>.new          one that is being written
//!               <spc_id>.resumed-<id> one that has become this sandbox, and is being removed
//!               <spc_id>.gone         one that is being removed
//!               templates/<id>/memory the memory of a template's snapshot, which spaces lie over
//!                             /sums   what it was when it was kept
//! ```
//!
//! **The directory is the truth.** A space exists when its directory has its name, which is the last step of writing it,
//! after all of it is on stable storage. At the start whatever has another name is cleared up: what was being written or
//! removed goes; what was being resumed comes back, unless the sandbox it became is taken over from the daemon before
//! ([`Spaces::settle`]). A sandbox that is found running and is a space already ends. What is in memory here is an index,
//! made at the start from the `meta` files.
//!
//! **A template's memory** is linked, not copied, so it costs nothing while the template's snapshot is current, and stays
//! when the template is made anew, for as long as a space lies over it. One that came with a space from elsewhere is that
//! space's alone: nobody else's VM may be built of what one tenant has sent.

mod arrival;
mod base_sums;
mod claim;
mod departure;
mod draft;
mod meta;
mod parcel;
mod start;
mod templates;
mod transfers;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::SpaceInfo;
use pod_types::{Limits, SandboxId, SpaceId};
use thiserror::Error;

use crate::auth::Tenant;

pub(crate) use arrival::{Arrival, ArrivalError};
pub(crate) use base_sums::BaseError;
pub(crate) use claim::Claim;
pub(crate) use departure::Departure;
pub(crate) use draft::Draft;
pub(crate) use meta::{Meta, SavedTerms, Shape};
pub(crate) use parcel::{Manifest, ParcelError};
pub(crate) use templates::{TemplateMemory, image_mark};
pub(crate) use transfers::{TooMany, Transfer};

/// Ends of names of what is not a space.
const NEW: &str = ".new";
/// The id of the sandbox that it became comes after this.
const RESUMED: &str = ".resumed-";
const GONE: &str = ".gone";
const TEMPLATES: &str = "templates";

/// All spaces of this host.
#[derive(Debug)]
pub(crate) struct Spaces {
    dir: PathBuf,
    entries: Mutex<BTreeMap<SpaceId, Entry>>,
    /// At the start: what a daemon before this one was resuming, and what it became.
    unsettled: Mutex<Vec<(SpaceId, SandboxId)>>,
    transfers: Mutex<Vec<(Tenant, transfers::Direction)>>,
    /// Memories of templates that were found whole.
    checked: Mutex<Vec<base_sums::Checked>>,
}

#[derive(Clone, Debug)]
struct Entry {
    meta: Arc<Meta>,
    /// Somebody has it in hand.
    busy: bool,
}

/// Why a space is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoSpace {
    #[error("space not found")]
    Unknown,
    #[error("the space is being resumed or exported")]
    Busy,
}

/// The tenant has as much frozen as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum OverQuota {
    #[error("{have} of {most} spaces are in use")]
    Count { have: u64, most: u64 },
    #[error("spaces take {have_mib} MiB, this one would take up to {need_mib}, and {most_mib} are allowed")]
    Bytes {
        have_mib: u64,
        need_mib: u64,
        most_mib: u64,
    },
}

impl Spaces {
    /// A tenant's space.
    pub(crate) fn find(&self, id: SpaceId, tenant: Tenant) -> Option<SpaceInfo> {
        let entries = self.entries();
        let entry = entries.get(&id).filter(|entry| entry.is_of(tenant))?;
        Some(entry.info())
    }

    /// A tenant's spaces, oldest first.
    pub(crate) fn list(&self, tenant: Tenant) -> Vec<SpaceInfo> {
        let entries = self.entries();
        let mine = entries.values().filter(|entry| entry.is_of(tenant));
        let mut list: Vec<_> = mine.map(Entry::info).collect();
        list.sort_by_key(|space| (space.created_at_ms, space.id));
        list
    }

    /// The newest space that a sandbox of this id was frozen to.
    pub(crate) fn of_sandbox(&self, id: SandboxId, tenant: Tenant) -> Option<SpaceId> {
        let entries = self.entries();
        let of_it = entries
            .values()
            .filter(|entry| entry.is_of(tenant) && entry.meta.sandbox_id == id);
        let newest = of_it.max_by_key(|entry| entry.meta.created_at_ms)?;
        Some(newest.meta.id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// How many there are, and their bytes; of one tenant, or of all.
    pub(crate) fn sizes(&self, tenant: Option<Tenant>) -> (u64, u64) {
        let entries = self.entries();
        let counted = entries
            .values()
            .filter(|entry| tenant.is_none_or(|tenant| entry.is_of(tenant)));
        counted.fold((0, 0), |(count, bytes), entry| {
            (count + 1, bytes + entry.meta.bytes())
        })
    }

    /// Whether a tenant may have one more, of about this size.
    pub(crate) fn admit(&self, tenant: Tenant, limits: &Limits, bytes: u64) -> Result<(), OverQuota> {
        let (have, have_bytes) = self.sizes(Some(tenant));
        if let Some(most) = limits.spaces.filter(|most| have >= *most) {
            return Err(OverQuota::Count { have, most });
        }
        match limits.spaces_mib {
            Some(most_mib) if have_bytes.saturating_add(bytes) > most_mib << 20 => Err(OverQuota::Bytes {
                have_mib: have_bytes >> 20,
                need_mib: bytes.div_ceil(1 << 20),
                most_mib,
            }),
            _ => Ok(()),
        }
    }

    /// Those that are older than this.
    pub(crate) fn older_than(&self, created_before_ms: u64) -> Vec<(SpaceId, Tenant)> {
        let entries = self.entries();
        let old = entries
            .values()
            .filter(|entry| entry.meta.created_at_ms < created_before_ms && !entry.busy);
        old.map(|entry| (entry.meta.id, Tenant(entry.meta.tenant)))
            .collect()
    }

    fn path(&self, id: SpaceId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<SpaceId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_of(&self, tenant: Tenant) -> bool {
        tenant.may_see(Tenant(self.meta.tenant))
    }

    fn info(&self) -> SpaceInfo {
        SpaceInfo {
            busy: self.busy,
            ..self.meta.info()
        }
    }
}

/// Has names in a directory reach stable storage.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Gives a directory another name, for good.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(to.parent().unwrap_or(Path::new("/")))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests;

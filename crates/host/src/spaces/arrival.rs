//! A space on its way from a file, which nobody vouches for: nothing of it counts until all of it has come and was
//! checked.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use api::FreezeCause;
use pod_types::{Limits, SandboxId, SpaceId};
use thiserror::Error;

use super::draft::Draft;
use super::parcel::{Manifest, ParcelError, Part, Unpacker};
use super::templates::{ID_BYTES, TemplateMemory, is_image_mark, is_memory_id};
use super::{Meta, OverQuota, Shape, Spaces};
use crate::auth::Tenant;
use crate::clock;
use crate::replay::{KeptError, Succession};

/// Longest state: of the largest disk, badly scattered, and more.
const STATE_BYTES_MAX: u64 = 257 << 20;
/// The host's disk is looked at after so many bytes.
const LOOK_BYTES: u64 = 4 << 20;

/// Why a file has not become a space. Nothing is left of it.
#[derive(Debug, Error)]
pub(crate) enum ArrivalError {
    #[error(transparent)]
    Parcel(#[from] ParcelError),
    /// It is whole, and does not say what a space can be.
    #[error("the file does not describe a space: {0}")]
    Absurd(&'static str),
    /// It is a space, and not one for this host or tenant.
    #[error("{text}")]
    Unfit { text: String, hint: String },
    #[error("the tenant has no room for another space")]
    Quota(#[source] OverQuota),
    #[error("the host's disk has {available_mib} MiB left, of which {reserve_mib} are kept free")]
    DiskFull { available_mib: u64, reserve_mib: u64 },
    #[error("cannot work on the space's files")]
    Files(#[source] io::Error),
    #[error("what its runs have said is of no use")]
    Replay(#[source] KeptError),
}

/// All of a space, which does not count yet.
#[derive(Debug)]
pub(crate) struct Arrival {
    spaces: Arc<Spaces>,
    pub(crate) manifest: Manifest,
    draft: Draft,
    replay: Vec<u8>,
    /// What the memory takes that came along.
    own_base_bytes: Option<u64>,
}

impl Arrival {
    /// Reads a file up to its end. `fits` says why a space cannot be for this host, before anything is written; `room`,
    /// whether so many bytes more can be written.
    pub(crate) fn receive(
        (spaces, id): (&Arc<Spaces>, SpaceId),
        (tenant, limits): (Tenant, &Limits),
        from: impl Read,
        fits: impl FnOnce(&Manifest) -> Result<(), ArrivalError>,
        room: impl Fn(u64) -> Result<(), ArrivalError>,
    ) -> Result<Self, ArrivalError> {
        let mut unpacker = Unpacker::open(from)?;
        let manifest = unpacker.manifest.clone();
        check(&manifest)?;
        fits(&manifest)?;
        let lengths = manifest.lengths;
        let known = lengths.state + lengths.replay + lengths.memory + lengths.disk;
        spaces.admit(tenant, limits, known).map_err(ArrivalError::Quota)?;
        room(known)?;
        let mut draft = Draft::begin(spaces, id).map_err(ArrivalError::Files)?;
        // Of two memories of this id, the one that this host has made itself is taken.
        let base = manifest.base.as_ref();
        let carries = base.is_some_and(|base| spaces.template(base).is_none());
        if carries {
            draft.begin_base().map_err(ArrivalError::Files)?;
        }
        let mut arrival = Self {
            spaces: Arc::clone(spaces),
            manifest,
            draft,
            replay: vec![0; usize::try_from(lengths.replay).unwrap_or(0)],
            own_base_bytes: carries.then_some(0),
        };
        let mut unseen = 0;
        while let Some(chunk) = unpacker.next()? {
            unseen += chunk.bytes.len() as u64;
            if unseen >= LOOK_BYTES {
                room(unseen)?;
                unseen = 0;
            }
            arrival.put(chunk.part, chunk.at, chunk.bytes)?;
            let base = arrival.own_base_bytes.unwrap_or(0);
            if chunk.part == Part::Base && base > 0 {
                spaces
                    .admit(tenant, limits, known + base)
                    .map_err(ArrivalError::Quota)?;
            }
        }
        arrival.stretch().map_err(ArrivalError::Files)?;
        Succession::read(&arrival.replay).map_err(ArrivalError::Replay)?;
        Ok(arrival)
    }

    /// Where the VM's files are.
    pub(crate) fn draft(&self) -> &Draft {
        &self.draft
    }

    /// The memory that its own lies over.
    pub(crate) fn base(&self) -> Option<TemplateMemory> {
        match self.draft.base_dir() {
            Some(dir) => Some(TemplateMemory {
                dir,
                working_set: None,
            }),
            None => self.spaces.template(self.manifest.base.as_ref()?),
        }
    }

    /// Makes it a space of this tenant.
    pub(crate) fn commit(self, tenant: Tenant, limits: &Limits) -> Result<Arc<Meta>, ArrivalError> {
        let Manifest {
            sandbox_id: _,
            template,
            image,
            base,
            shape,
            terms,
            running,
            lengths,
        } = self.manifest;
        let meta = Meta {
            version: Meta::VERSION,
            id: self.draft.id,
            tenant: tenant.0,
            // An id of this host's own: one that the file names may be somebody's here.
            sandbox_id: SandboxId::random().map_err(|error| ArrivalError::Files(io::Error::other(error)))?,
            template,
            image,
            base,
            own_base_bytes: self.own_base_bytes,
            // Whoever imports a file has not said that what is in it may use secrets of theirs.
            shape: Shape {
                secrets: Vec::new(),
                ..shape
            },
            terms,
            generation: 0,
            created_at_ms: clock::now_ms(),
            cause: FreezeCause::Import,
            running,
            memory_bytes: lengths.memory,
            disk_bytes: lengths.disk,
            state_bytes: lengths.state,
            replay: String::new(),
            replay_bytes: 0,
        };
        // Others may have been frozen since it was asked first.
        let bytes = meta.bytes() + lengths.replay;
        self.spaces
            .admit(tenant, limits, bytes)
            .map_err(ArrivalError::Quota)?;
        self.draft.commit(meta, &self.replay).map_err(ArrivalError::Files)
    }

    fn put(&mut self, part: Part, at: u64, bytes: &[u8]) -> Result<(), ArrivalError> {
        let files = self.draft.files();
        let file = match part {
            Part::State => &files.state,
            Part::Memory => &files.memory,
            Part::Disk => &files.disk,
            Part::Replay => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                if let Some(place) = self.replay.get_mut(at..at.saturating_add(bytes.len())) {
                    place.copy_from_slice(bytes);
                }
                return Ok(());
            }
            Part::Base => match self.draft.base() {
                Some(file) => {
                    self.own_base_bytes = self.own_base_bytes.map(|sum| sum + bytes.len() as u64);
                    file
                }
                None => return Ok(()),
            },
        };
        file.write_all_at(bytes, at).map_err(ArrivalError::Files)
    }

    /// What was left out at the ends are zeros.
    fn stretch(&self) -> io::Result<()> {
        let (files, lengths) = (self.draft.files(), self.manifest.lengths);
        let stretch = |file: &File, length| file.set_len(length);
        stretch(&files.state, lengths.state)?;
        stretch(&files.memory, lengths.memory)?;
        stretch(&files.disk, lengths.disk)?;
        self.draft
            .base()
            .map_or(Ok(()), |base| stretch(base, lengths.base))
    }
}

/// Whether a space can be like this at all. What is in its parts only a VM process can judge.
fn check(manifest: &Manifest) -> Result<(), ArrivalError> {
    let Manifest { shape, lengths, .. } = manifest;
    let ram_bytes = u64::from(shape.ram_mib) << 20;
    let base_bytes = manifest.base.as_ref().map_or(0, |_| ram_bytes + ID_BYTES as u64);
    let bounds = [
        (shape.vcpus > 0 && shape.ram_mib > 0, "its size"),
        (
            manifest.base.as_deref().is_none_or(is_memory_id),
            "the id of its template's memory",
        ),
        (is_image_mark(&manifest.image), "the mark of its disk image"),
        (lengths.base == base_bytes, "the length of its template's memory"),
        (lengths.memory <= ram_bytes, "the length of its memory"),
        (
            lengths.disk <= u64::from(shape.rootfs_gb) << 30,
            "the length of its disk",
        ),
        (lengths.state <= STATE_BYTES_MAX, "the length of its state"),
        (
            lengths.replay <= Succession::BYTES_MAX,
            "the length of what its runs have said",
        ),
    ];
    match bounds.into_iter().find(|(fits, _)| !fits) {
        None => Ok(()),
        Some((_, what)) => Err(ArrivalError::Absurd(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parcel::Lengths;
    use super::super::{SavedTerms, Shape};
    use super::*;

    type Change = fn(&mut Manifest);

    fn manifest() -> Manifest {
        Manifest {
            sandbox_id: SandboxId::from([2; 16]),
            template: "default".to_owned(),
            image: "ab".repeat(16),
            base: Some("cd".repeat(16)),
            shape: Shape {
                vcpus: 1,
                ram_mib: 512,
                rootfs_gb: 1,
                egress: egress::Policy::Open,
                secrets: Vec::new(),
            },
            terms: SavedTerms {
                timeout_seconds: None,
                idle_timeout_seconds: None,
            },
            running: false,
            lengths: Lengths {
                base: (512 << 20) + 16,
                ..Lengths::default()
            },
        }
    }

    #[test]
    fn what_no_space_can_be_like_is_told() {
        check(&manifest()).unwrap();
        let wrong: [(&str, Change); 8] = [
            ("its size", |of| of.shape.vcpus = 0),
            ("the id of", |of| of.base = Some("../../etc/passwd".to_owned())),
            ("the mark of", |of| of.image = "\x1b[2J".repeat(8)),
            ("the length of its template's", |of| of.lengths.base -= 1),
            ("the length of its template's", |of| of.base = None),
            ("the length of its memory", |of| of.lengths.memory = u64::MAX),
            ("the length of its disk", |of| of.lengths.disk = (1 << 30) + 1),
            ("the length of what", |of| of.lengths.replay = 1 << 40),
        ];
        for (what, change) in wrong {
            let mut manifest = manifest();
            change(&mut manifest);
            let refused = check(&manifest).unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
        }
    }
}

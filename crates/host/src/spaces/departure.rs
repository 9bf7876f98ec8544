//! A space on its way to a file.
//!
//! Its files never change, so they are opened and the space is put back at once: it may be resumed or removed while it is
//! still being sent.

use std::fs::File;
use std::io::{self, Write};

use vmm_proto::{FROZEN_DISK, FROZEN_MEMORY, FROZEN_STATE};

use super::Claim;
use super::draft::REPLAY;
use super::parcel::{self, Lengths, Manifest, Part};
use super::templates::MEMORY;

/// All that is needed to go on with it elsewhere.
#[derive(Debug)]
pub(crate) struct Departure {
    manifest: Manifest,
    parts: Vec<(Part, File)>,
}

impl Departure {
    /// Opens everything. `None` when the memory that its own lies over is not here.
    pub(crate) fn begin(claim: &Claim) -> io::Result<Option<Self>> {
        let (meta, vm) = (&claim.meta, claim.vm());
        let mut parts = vec![
            (Part::State, File::open(vm.join(FROZEN_STATE))?),
            (Part::Replay, File::open(claim.dir().join(REPLAY))?),
            (Part::Memory, File::open(vm.join(FROZEN_MEMORY))?),
            (Part::Disk, File::open(vm.join(FROZEN_DISK))?),
        ];
        let mut lengths = Lengths {
            state: meta.state_bytes,
            replay: meta.replay_bytes,
            memory: meta.memory_bytes,
            disk: meta.disk_bytes,
            base: 0,
        };
        if meta.base.is_some() {
            let Some(base) = claim.base() else {
                return Ok(None);
            };
            let whole = claim.check_base(&base);
            whole.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let file = File::open(base.dir.join(MEMORY))?;
            lengths.base = file.metadata()?.len();
            parts.push((Part::Base, file));
        }
        // What is damaged here is not to be found out on another host.
        claim.replay()?;
        let manifest = Manifest {
            sandbox_id: meta.sandbox_id,
            template: meta.template.clone(),
            image: meta.image.clone(),
            base: meta.base.clone(),
            shape: meta.shape.clone(),
            terms: meta.terms,
            running: meta.running,
            lengths,
        };
        Ok(Some(Self { manifest, parts }))
    }

    /// Writes the file. Takes as long as `to` takes.
    pub(crate) fn write(&self, to: impl Write) -> io::Result<()> {
        parcel::pack(&self.manifest, &self.parts, to)
    }
}

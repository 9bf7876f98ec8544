//! What a file says of the space in it.

use pod_types::SandboxId;
use serde::{Deserialize, Serialize};

use super::super::meta::{SavedTerms, Shape};
use super::Part;

/// Fields may be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// For people: ids mean nothing on another host.
    pub(crate) sandbox_id: SandboxId,
    pub(crate) template: String,
    /// Marks the disk image that its disk lies over.
    pub(crate) image: String,
    /// Which memory its own lies over; none when all of it is here.
    pub(crate) base: Option<String>,
    pub(crate) shape: Shape,
    pub(crate) terms: SavedTerms,
    pub(crate) running: bool,
    pub(crate) lengths: Lengths,
}

/// Of its parts, in bytes, with the zeros that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lengths {
    pub(crate) state: u64,
    pub(crate) replay: u64,
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    pub(crate) base: u64,
}

impl Lengths {
    pub(crate) fn of(&self, part: Part) -> u64 {
        match part {
            Part::State => self.state,
            Part::Replay => self.replay,
            Part::Memory => self.memory,
            Part::Disk => self.disk,
            Part::Base => self.base,
        }
    }
}

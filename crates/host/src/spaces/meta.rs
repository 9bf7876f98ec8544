//! What a space is, in a file that says whether it is whole.

use std::fs;
use std::io;
use std::path::Path;

use api::{FreezeCause, SpaceInfo};
use egress::Policy;
use pod_types::{SandboxId, SpaceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use vmm_proto::VmSize;

/// Raise it when a field changes its meaning; fields may be added without.
const VERSION: u32 = 1;
/// Longer files are not ours.
const BYTES_MAX: u64 = 512 * 1024;

/// Everything but the VM and what it has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) version: u32,
    pub(crate) id: SpaceId,
    pub(crate) tenant: i64,
    pub(crate) sandbox_id: SandboxId,
    pub(crate) template: String,
    /// Marks the disk image that its disk lies over.
    pub(crate) image: String,
    /// Which memory its own lies over; none when all of it is here.
    pub(crate) base: Option<String>,
    /// That memory is in the space's own directory, since it came with it, and its content takes so much of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) own_base_bytes: Option<u64>,
    pub(crate) shape: Shape,
    pub(crate) terms: SavedTerms,
    pub(crate) generation: u32,
    pub(crate) created_at_ms: u64,
    pub(crate) cause: FreezeCause,
    pub(crate) running: bool,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) state_bytes: u64,
    /// Digest of what its runs have said.
    pub(crate) replay: String,
    pub(crate) replay_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) vcpus: u8,
    pub(crate) ram_mib: u32,
    pub(crate) rootfs_gb: u32,
    pub(crate) egress: Policy,
    /// Names of secrets that it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<String>,
}

impl Shape {
    /// What the VM process is to hold it to.
    pub(crate) fn size(&self) -> VmSize {
        VmSize {
            vcpus: self.vcpus,
            ram_mib: self.ram_mib,
            disk_gib: self.rootfs_gb,
        }
    }
}

/// What was agreed on with the client that froze it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedTerms {
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) idle_timeout_seconds: Option<u64>,
}

/// Why a file does not say what a space is.
#[derive(Debug, Error)]
pub(crate) enum MetaError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is too long")]
    TooLong,
    #[error("it is not what was written")]
    Damaged,
    #[error("it is of version {0}, and this program reads {VERSION}")]
    Version(u32),
    #[error("it does not say what a space is")]
    Content(#[source] serde_json::Error),
}

impl Meta {
    pub(crate) const VERSION: u32 = VERSION;

    pub(crate) fn bytes(&self) -> u64 {
        let own_base = self.own_base_bytes.unwrap_or(0);
        self.memory_bytes + self.disk_bytes + self.state_bytes + self.replay_bytes + own_base
    }

    pub(super) fn info(&self) -> SpaceInfo {
        SpaceInfo {
            id: self.id,
            sandbox_id: self.sandbox_id,
            template: self.template.clone(),
            ram_mib: self.shape.ram_mib,
            rootfs_gb: self.shape.rootfs_gb,
            vcpus: self.shape.vcpus,
            egress: self.shape.egress.clone(),
            created_at_ms: self.created_at_ms,
            cause: self.cause,
            bytes: self.bytes(),
            memory_bytes: self.memory_bytes,
            disk_bytes: self.disk_bytes,
            running: self.running,
            busy: false,
        }
    }

    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let text = serde_json::to_string(self)?;
        Ok(format!("{text}\n{}\n", digest(text.as_bytes())).into_bytes())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        let text = str::from_utf8(bytes).map_err(|_| MetaError::Damaged)?;
        let lines: Vec<&str> = text.split('\n').collect();
        let [text, sum, ""] = lines[..] else {
            return Err(MetaError::Damaged);
        };
        if sum != digest(text.as_bytes()) {
            return Err(MetaError::Damaged);
        }
        let meta: Self = serde_json::from_str(text).map_err(MetaError::Content)?;
        if meta.version != VERSION {
            return Err(MetaError::Version(meta.version));
        }
        Ok(meta)
    }

    pub(super) fn read(path: &Path) -> Result<Self, MetaError> {
        if fs::metadata(path).map_err(MetaError::Read)?.len() > BYTES_MAX {
            return Err(MetaError::TooLong);
        }
        Self::decode(&fs::read(path).map_err(MetaError::Read)?)
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

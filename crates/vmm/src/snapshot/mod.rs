//! A paused VM in files, and back.
//!
//! ```text
//!   <dir>/memory   all RAM, one address space after the other, sparse; the snapshot's id behind it
//!   <dir>/disk     the blocks that are not the base image's
//!   <dir>/state    the rest: checked whole before anything of it is believed
//! ```
//!
//! `state` is renamed into place last, when everything is on stable storage: a directory with a `state` is a whole
//! snapshot, one without is none.
//!
//! A snapshot is for the same build of this program, the same kernel and the same CPU ([`fingerprint`]): it saves the
//! seconds a boot takes, and is made again when it does not fit. Whatever is wrong with the files ends in a
//! [`SnapshotError`], never in a VM that is subtly different.

mod fingerprint;
mod format;
mod memory_file;
mod tripwires;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vmm_proto::VmSize;

use crate::legacy::SavedSerial;
use crate::machine::VmState;
use crate::memory::{self, GuestMemory};
use crate::virtio::{DeviceError, DeviceState, TransportState};
pub(crate) use fingerprint::{Fingerprint, ask_kernel};
pub(crate) use format::{FormatError, Stored, decode, encode, read};
pub(crate) use memory_file::{MemoryFileError, write as write_memory};

const MEMORY: &str = "memory";
const DISK: &str = "disk";
const STATE: &str = "state";
/// What the name of a file ends in until it is whole.
const UNFINISHED: &str = "part";

/// Why there is no snapshot, or it is of no use here.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("cannot make {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the state file is not whole")]
    Format(#[source] FormatError),
    #[error("cannot save a device")]
    Device(#[source] DeviceError),
    #[error("the memory file is of no use")]
    Memory(#[source] MemoryFileError),
    #[error("it was made by {theirs}, this is {ours}")]
    Build { theirs: String, ours: String },
    #[error("it was made on kernel {theirs}, this is {ours}")]
    Kernel { theirs: String, ours: String },
    #[error("it was made for another CPU, or with other features of it")]
    Cpu,
    #[error("it was made on a CPU whose time-stamp counter runs at {theirs} kHz, this one's at {ours}")]
    TscFrequency { theirs: u32, ours: u32 },
    #[error("its contents do not go together: {what}")]
    Inconsistent { what: &'static str },
}

/// Which snapshot it is; in the state and behind the memory, which so cannot be swapped or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotId([u8; 16]);

/// The state file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) id: SnapshotId,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) ram_mib: u32,
    pub(crate) vm: VmState,
    pub(crate) serial: SavedSerial,
    /// In the order of their windows.
    pub(crate) devices: Vec<(TransportState, DeviceState)>,
}

impl Document {
    /// Whether the VM is no larger than this.
    pub(crate) fn is_within(&self, size: VmSize) -> bool {
        let mut states = self.devices.iter().map(|(_, state)| state);
        self.fingerprint.vcpus <= size.vcpus
            && self.ram_mib <= size.ram_mib
            && states.all(|state| match state {
                DeviceState::Block(disk) => disk.size_bytes() <= u64::from(size.disk_gib) << 30,
                _ => true,
            })
    }
}

impl Stored for Document {
    const MAGIC: [u8; 8] = *b"podfsnap";
}

/// A snapshot that is being written.
#[derive(Debug)]
pub(crate) struct Target {
    dir: PathBuf,
    pub(crate) id: SnapshotId,
    pub(crate) memory: File,
    pub(crate) disk: File,
}

/// A snapshot that has been opened and whose state is whole.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) document: Document,
    pub(crate) memory: File,
    pub(crate) disk: File,
}

/// RAM over the memory file of the snapshot in a directory, whatever else is there.
pub(crate) fn open_memory(dir: &Path, ram_mib: u32, id: SnapshotId) -> Result<GuestMemory, SnapshotError> {
    let path = dir.join(MEMORY);
    let file = File::open(&path).map_err(|source| SnapshotError::Read { path, source })?;
    map_memory(file, ram_mib, id)
}

/// RAM over the memory file of a snapshot, copy-on-write.
pub(crate) fn map_memory(file: File, ram_mib: u32, id: SnapshotId) -> Result<GuestMemory, SnapshotError> {
    memory_file::check(&file, u64::from(ram_mib) << 20, id).map_err(SnapshotError::Memory)?;
    memory::map(ram_mib, file)
        .map_err(MemoryFileError::Map)
        .map_err(SnapshotError::Memory)
}

impl SnapshotId {
    pub(crate) fn new() -> Result<Self, io::Error> {
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0
    }

    pub(crate) fn digits(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Target {
    /// Makes the files. The directory must be there and have none of them.
    pub(crate) fn create(dir: &Path) -> Result<Self, SnapshotError> {
        let make = |name: &str| {
            let path = dir.join(name);
            let options = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            options.map_err(|source| SnapshotError::Make { path, source })
        };
        let id = SnapshotId::new().map_err(|source| SnapshotError::Make {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            id,
            memory: make(MEMORY)?,
            disk: make(DISK)?,
        })
    }

    /// Completes the snapshot: all of it is on stable storage when this returns.
    pub(crate) fn finish(self, document: &Document) -> Result<(), SnapshotError> {
        let failed = |name: &str| {
            let path = self.dir.join(name);
            move |source| SnapshotError::Make { path, source }
        };
        self.memory.sync_all().map_err(failed(MEMORY))?;
        self.disk.sync_all().map_err(failed(DISK))?;
        let bytes = encode(document).map_err(SnapshotError::Format)?;
        write_durably(&self.dir.join(STATE), &bytes).map_err(failed(STATE))
    }
}

impl Source {
    pub(crate) fn open(dir: &Path) -> Result<Self, SnapshotError> {
        let open = |name: &str| {
            let path = dir.join(name);
            File::open(&path).map_err(|source| SnapshotError::Read { path, source })
        };
        let bytes = read(&open(STATE)?).map_err(|source| SnapshotError::Read {
            path: dir.join(STATE),
            source,
        })?;
        let document = decode(&bytes).map_err(SnapshotError::Format)?;
        Ok(Self {
            document,
            memory: open(MEMORY)?,
            disk: open(DISK)?,
        })
    }
}

/// Makes a file that must not exist: when it has its name, all of it is on stable storage.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let unfinished = path.with_extension(UNFINISHED);
    fs::write(&unfinished, bytes)?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;

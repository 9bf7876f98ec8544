//! The block device, virtio 1.2 section 5.2: the root [`Disk`] as the guest's `/dev/vda`.
//!
//! Requests are served in order, in the main loop: reads come from the page cache as a rule. A request that is
//! malformed within its chain is answered with an error status; one whose chain has no room for a status stops the
//! device.

mod config;
mod request;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

use super::device::{DeviceError, DeviceEvent, DeviceState, Host, OwnFiles, Progress, Rings, VirtioDevice};
use crate::disk::{Disk, DiskError, DiskState};
use request::Outcome;

pub use config::{DISCARD_SECTORS_MAX, SEGMENTS_MAX};

/// Unit of the device's addresses, in bytes, whatever its block size.
pub const SECTOR_BYTES: u64 = 512;

/// Room for two of the longest requests.
const QUEUE_SIZE: u16 = 256;
const QUEUE: usize = 0;

/// Requests served before other devices get their turn.
const BATCH_MAX: usize = 64;

/// What the driver sees as `/sys/block/vda/serial`.
const SERIAL: &[u8] = b"podflare-root";

#[derive(Clone, Debug)]
pub struct BlockConfig {
    /// Image the disk shows where nothing has been written. Only read.
    pub base: PathBuf,
    /// File that takes what is written. It must not exist: two VMs on one layer would destroy each other's disk.
    pub layer: PathBuf,
    /// Size of the disk; a multiple of 4096. Beyond the end of the base it reads as zeros.
    pub size_bytes: u64,
}

#[derive(Debug, Error)]
pub enum BlockError {
    #[error("cannot open the base image {path}", path = path.display())]
    OpenBase { path: PathBuf, source: io::Error },
    #[error("cannot make the layer file {path}", path = path.display())]
    MakeLayer { path: PathBuf, source: io::Error },
    #[error("the disk is not possible")]
    Disk(#[source] DiskError),
}

/// What the device has done so far. Read by any thread.
#[derive(Debug, Default)]
pub struct BlockCounters {
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub flushes: AtomicU64,
    /// Requests answered with an error.
    pub errors: AtomicU64,
    /// Bytes of the private layer in use.
    pub layer_bytes: AtomicU64,
}

/// The device.
#[derive(Debug)]
pub struct Block {
    disk: Disk,
    config: Vec<u8>,
    counters: Arc<BlockCounters>,
}

impl Block {
    /// # Errors
    /// A file cannot be opened or made, or the size is not one a disk can have.
    pub fn open(config: BlockConfig) -> Result<Self, BlockError> {
        let (base, layer) = (open_base(&config.base)?, make_layer(&config.layer)?);
        Disk::new(base, layer, config.size_bytes)
            .map(Self::new)
            .map_err(BlockError::Disk)
    }

    /// The device as it was saved, over the same base; `saved` is the file its blocks were copied to.
    ///
    /// # Errors
    /// A file cannot be opened or made, or the state does not fit them.
    pub fn restore(base: &Path, layer: &Path, saved: File, state: &DiskState) -> Result<Self, BlockError> {
        let (base, layer) = (open_base(base)?, make_layer(layer)?);
        Disk::restore(base, saved, state, layer)
            .map(Self::new)
            .map_err(BlockError::Disk)
    }

    #[must_use]
    pub fn new(disk: Disk) -> Self {
        let config = config::bytes(disk.size_bytes() / SECTOR_BYTES);
        Self {
            disk,
            config,
            counters: Arc::default(),
        }
    }

    #[must_use]
    pub fn counters(&self) -> Arc<BlockCounters> {
        Arc::clone(&self.counters)
    }

    fn serve(&mut self, rings: &mut Rings<'_>) -> Result<Progress, DeviceError> {
        let mut progress = Progress::MoreOn(QUEUE);
        let mut served = 0;
        while let Some(mut ring) = rings.ring(QUEUE) {
            ring.unwatch()?;
            while served < BATCH_MAX
                && let Some(chain) = ring.pop()?
            {
                let (outcome, written) = request::serve(&mut self.disk, &chain)?;
                self.count(outcome);
                ring.push_used(chain.head, written)?;
                served += 1;
            }
            if served >= BATCH_MAX {
                break;
            }
            if !ring.watch()? {
                progress = Progress::Done;
                break;
            }
        }
        self.counters
            .layer_bytes
            .store(self.disk.layer_bytes(), Ordering::Relaxed);
        rings.interrupt_for(&[QUEUE])?;
        Ok(progress)
    }

    fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Read => &self.counters.reads,
            Outcome::Written => &self.counters.writes,
            Outcome::Flushed => &self.counters.flushes,
            Outcome::Failed => &self.counters.errors,
            Outcome::Told => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn open_base(path: &Path) -> Result<File, BlockError> {
    File::open(path).map_err(|source| BlockError::OpenBase {
        path: path.to_owned(),
        source,
    })
}

fn make_layer(path: &Path) -> Result<File, BlockError> {
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path);
    options.map_err(|source| BlockError::MakeLayer {
        path: path.to_owned(),
        source,
    })
}

impl VirtioDevice for Block {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        let bits = [
            VIRTIO_BLK_F_FLUSH,
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_TOPOLOGY,
            VIRTIO_BLK_F_DISCARD,
            VIRTIO_BLK_F_WRITE_ZEROES,
        ];
        bits.iter().fold(0, |features, bit| features | 1 << bit)
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn handle(
        &mut self,
        _event: DeviceEvent,
        rings: &mut Rings<'_>,
        _host: &mut Host<'_, '_>,
    ) -> Result<Progress, DeviceError> {
        self.serve(rings)
    }

    fn reset(&mut self) {}

    fn save(&self, layer: &File) -> Result<DeviceState, DeviceError> {
        self.disk
            .save(layer)
            .map(DeviceState::Block)
            .map_err(DeviceError::Disk)
    }

    fn share(&mut self, files: &mut OwnFiles) {
        if let Some(layer) = files.layer.take() {
            self.disk.share(layer);
            self.counters
                .layer_bytes
                .store(self.disk.layer_bytes(), Ordering::Relaxed);
        }
    }

    fn kept(&self) -> Vec<RawFd> {
        self.disk.descriptors().collect()
    }

    fn inherit(&mut self, files: &mut OwnFiles) -> io::Result<()> {
        let layer = files.layer.take().ok_or(io::ErrorKind::NotFound)?;
        // The one the parent writes from now on holds nothing yet.
        self.disk.seal(layer);
        self.counters.reset();
        Ok(())
    }
}

impl BlockCounters {
    fn reset(&self) {
        let Self {
            reads,
            writes,
            flushes,
            errors,
            layer_bytes,
        } = self;
        for counter in [reads, writes, flushes, errors, layer_bytes] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

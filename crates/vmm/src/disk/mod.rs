//! The root disk: an immutable base file under append-only layers.
//!
//! ```text
//!   disk block ──index──> base            the same block of the base file; zeros beyond its end
//!                         zeros           discarded, or written as zeros
//!                         stored at n     block n of the one number space all layers share
//!
//!   layers:   [ sealed: blocks 0..k ) [ sealed: k..m ) [ writable: m.. )
//! ```
//!
//! Only the last layer is written. A block that lives there is overwritten in place and its place is used again after
//! a discard, so a layer never grows beyond the disk. A block that lives anywhere else gets a place in the writable
//! layer at its first write. The index is changed only after the data is in the file: a failed write (a full host
//! disk) leaves what was there before.
//!
//! The index is plain memory and layers are held by descriptor, so a fork(2) of the process is a clone of the disk:
//! both sides seal the layer they were writing ([`Disk::seal`]), share it from then on, and write each to a new one.
//! A layer that no block lies in (any more) is closed, so what is held is what is read.
//! Reads cost one index look-up whatever the number of layers. There is no journal: layers live as long as the VM.

mod extents;
mod index;
mod save;
mod store;

#[cfg(any(test, feature = "fuzzing"))]
pub mod model;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};

use thiserror::Error;

use crate::virtio::Scatter;
use index::{BlockIndex, Place};
use store::LayerStore;

pub use save::DiskState;

/// Unit of the index, in bytes: what ext4 and the page cache work in.
pub const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = 4096;

/// A disk. Offsets and lengths are in bytes, of any alignment.
#[derive(Debug)]
pub struct Disk {
    base: File,
    size_bytes: u64,
    index: BlockIndex,
    layers: LayerStore,
    /// Written since the last flush.
    dirty: bool,
}

#[derive(Debug, Error)]
pub enum DiskError {
    #[error(
        "a disk of {size_bytes} bytes is not possible: it must be a multiple of {BLOCK_BYTES}, up to 8 TiB"
    )]
    Size { size_bytes: u64 },
    #[error("bytes from {offset}, {len} of them, are not all on the disk")]
    OutsideDisk { offset: u64, len: u64 },
    #[error("cannot read the disk's base")]
    ReadBase(#[source] io::Error),
    #[error("cannot read a layer of the disk")]
    ReadLayer(#[source] io::Error),
    #[error("cannot write to the disk's layer")]
    WriteLayer(#[source] io::Error),
    #[error("the disk's layers have no block number left")]
    NumbersUsedUp,
    #[error("the base is not the one the disk was saved over")]
    NotThisBase,
    #[error("the saved index names blocks that do not exist")]
    Index,
}

/// Bytes of the disk that lie together in one file.
#[derive(Debug)]
enum Source {
    Zeros,
    Base,
    Stored(u64),
}

impl Disk {
    /// A disk of `size_bytes` that shows `base` and writes to `layer`, an empty file nobody else writes.
    ///
    /// # Errors
    /// The size is not one a disk can have.
    pub fn new(base: File, layer: File, size_bytes: u64) -> Result<Self, DiskError> {
        let blocks = u32::try_from(size_bytes / BLOCK_BYTES)
            .ok()
            .filter(|blocks| *blocks <= u32::MAX / 2);
        let (Some(blocks), true) = (blocks, size_bytes > 0 && size_bytes.is_multiple_of(BLOCK_BYTES)) else {
            return Err(DiskError::Size { size_bytes });
        };
        let (index, layers) = (BlockIndex::new(blocks), LayerStore::new(layer));
        Ok(Self {
            base,
            size_bytes,
            index,
            layers,
            dirty: false,
        })
    }

    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Bytes of the writable layer that hold blocks of the disk.
    #[must_use]
    pub fn layer_bytes(&self) -> u64 {
        self.layers.used_bytes()
    }

    /// Fills `target` from the disk at `offset`.
    ///
    /// # Errors
    /// The range is not on the disk, or a file cannot be read; `target` may be filled in part then.
    pub fn read(&self, offset: u64, target: &Scatter<'_>) -> Result<(), DiskError> {
        self.check(offset, target.len() as u64)?;
        let mut done = 0;
        while done < target.len() {
            let (source, len) = self.source_of(offset + done as u64, target.len() - done);
            let part = target.part(done, len);
            match source {
                Source::Zeros => part.fill_zero(),
                Source::Base => {
                    let at = offset + done as u64;
                    let read = part.read_at(self.base.as_fd(), at).map_err(DiskError::ReadBase)?;
                    part.part(read, len - read).fill_zero();
                }
                Source::Stored(at) => self.read_stored(at, &part)?,
            }
            done += len;
        }
        Ok(())
    }

    /// Writes `source` to the disk at `offset`.
    ///
    /// # Errors
    /// The range is not on the disk, or the layer takes no more. Each block then has its old or its new content.
    pub fn write(&mut self, offset: u64, source: &Scatter<'_>) -> Result<(), DiskError> {
        self.check(offset, source.len() as u64)?;
        self.dirty = true;
        let mut done = 0;
        while done < source.len() {
            let at = offset + done as u64;
            let (block, within) = (block_of(at), within_block(at));
            let left = source.len() - done;
            done += if let Some(number) = self.writable_place(block) {
                let len = self.run_in_place(block, number, within, left);
                let file_offset = u64::from(number) * BLOCK_BYTES + within as u64;
                self.layers
                    .write(file_offset, &source.part(done, len))
                    .map_err(DiskError::WriteLayer)?;
                len
            } else if within == 0 && left >= BLOCK {
                let blocks = self.run_elsewhere(block, left / BLOCK);
                self.write_new(block, blocks, &source.part(done, BLOCK * blocks as usize))?
            } else {
                let len = left.min(BLOCK - within);
                let mut whole = vec![0; BLOCK];
                self.read(u64::from(block) * BLOCK_BYTES, &Scatter::from(&mut whole[..]))?;
                source.part(done, len).copy_to(&mut whole[within..within + len]);
                self.write_new(block, 1, &Scatter::from(&mut whole[..]))?;
                len
            };
        }
        Ok(())
    }

    /// Makes a range read as zeros. Whole blocks in it give up their place.
    ///
    /// # Errors
    /// The range is not on the disk, or a block at its edge cannot be written.
    pub fn write_zeros(&mut self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.check(offset, len)?;
        let end = offset + len;
        let (first, last) = (offset.next_multiple_of(BLOCK_BYTES), end - end % BLOCK_BYTES);
        let mut zeros = [0; BLOCK];
        if first > last {
            return self.write(offset, &Scatter::from(&mut zeros[..within_block(len)]));
        }
        // Less than a block each.
        self.write(offset, &Scatter::from(&mut zeros[..within_block(first - offset)]))?;
        self.discard(first, last - first)?;
        self.write(last, &Scatter::from(&mut zeros[..within_block(end - last)]))
    }

    /// Forgets a range. Whole blocks in it give up their place and read as zeros; the rest keeps its content.
    ///
    /// # Errors
    /// The range is not on the disk.
    pub fn discard(&mut self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.check(offset, len)?;
        // A range within one block gives an empty one here.
        for block in block_of(offset.next_multiple_of(BLOCK_BYTES))..block_of(offset + len) {
            self.set_place(block, Place::Zeros);
        }
        Ok(())
    }

    /// Returns when everything written before is on stable storage.
    ///
    /// # Errors
    /// As of fdatasync(2).
    pub fn flush(&mut self) -> Result<(), DiskError> {
        if self.dirty {
            self.layers.sync().map_err(DiskError::WriteLayer)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Closes the writable layer for writing for good, and goes on with `layer`, an empty file nobody else writes. The
    /// old one is kept only if blocks of the disk lie in it.
    pub fn seal(&mut self, layer: File) {
        self.layers.seal(layer);
    }

    /// What is on the disk now will be on clones of it as well: from now on it writes to `layer`, unless nothing has
    /// been written that they could share.
    pub fn share(&mut self, layer: File) {
        if self.layer_bytes() > 0 {
            self.seal(layer);
        }
    }

    /// What a clone of the disk shares with it, and so must be kept by a process that is forked.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.layers.descriptors().chain([self.base.as_raw_fd()])
    }

    fn check(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ => Err(DiskError::OutsideDisk { offset, len }),
        }
    }

    /// Where the bytes at `offset` lie, and how many of `wanted` lie on from there.
    fn source_of(&self, offset: u64, wanted: usize) -> (Source, usize) {
        let (block, within) = (block_of(offset), within_block(offset));
        let place = self.index.get(block);
        let follows = |index: &BlockIndex, n: u32| match place {
            Place::Stored(number) => {
                index.get(block + n) == Place::Stored(number + n)
                    && self.layers.same_layer(number, number + n)
            }
            other => index.get(block + n) == other,
        };
        let len = run_bytes(within, wanted, |n| follows(&self.index, n));
        let source = match place {
            Place::Base => Source::Base,
            Place::Zeros => Source::Zeros,
            Place::Stored(number) => Source::Stored(u64::from(number) * BLOCK_BYTES + within as u64),
        };
        (source, len)
    }

    fn read_stored(&self, at: u64, target: &Scatter<'_>) -> Result<(), DiskError> {
        let read = self.layers.read(at, target).map_err(DiskError::ReadLayer)?;
        if read < target.len() {
            // Somebody has cut the layer: say so instead of inventing zeros.
            return Err(DiskError::ReadLayer(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// The number of a block that lives in the writable layer.
    fn writable_place(&self, block: u32) -> Option<u32> {
        match self.index.get(block) {
            Place::Stored(number) if self.layers.is_writable(number) => Some(number),
            _ => None,
        }
    }

    /// How many bytes from `within` on lie together in the writable layer.
    fn run_in_place(&self, block: u32, number: u32, within: usize, wanted: usize) -> usize {
        run_bytes(within, wanted, |n| {
            self.index.get(block + n) == Place::Stored(number + n)
        })
    }

    /// How many blocks from `block` on, at most `wanted`, do not live in the writable layer.
    fn run_elsewhere(&self, block: u32, wanted: usize) -> u32 {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        (0..wanted)
            .take_while(|n| self.writable_place(block + n).is_none())
            .count()
            .try_into()
            .unwrap_or(wanted)
    }

    /// Writes whole blocks to new places; returns the bytes written, which may be fewer when places are scattered.
    fn write_new(&mut self, block: u32, blocks: u32, source: &Scatter<'_>) -> Result<usize, DiskError> {
        let (number, count) = self.layers.take(blocks).ok_or(DiskError::NumbersUsedUp)?;
        let len = count as usize * BLOCK;
        if let Err(error) = self
            .layers
            .write(u64::from(number) * BLOCK_BYTES, &source.part(0, len))
        {
            (number..number + count).for_each(|number| self.layers.release(number));
            return Err(DiskError::WriteLayer(error));
        }
        for n in 0..count {
            self.set_place(block + n, Place::Stored(number + n));
        }
        Ok(len)
    }

    fn set_place(&mut self, block: u32, place: Place) {
        let before = self.index.get(block);
        self.index.set(block, place);
        // The new place first: a layer that loses its last block and gets another one stays.
        if let Place::Stored(number) = place {
            self.layers.link(number);
        }
        if let Place::Stored(number) = before {
            self.layers.unlink(number);
        }
    }
}

/// Bytes of a run that starts `within` its first block: to the end of the first block for which `follows` fails.
fn run_bytes(within: usize, wanted: usize, follows: impl Fn(u32) -> bool) -> usize {
    let mut len = BLOCK - within;
    let mut n = 1;
    while len < wanted && follows(n) {
        len += BLOCK;
        n += 1;
    }
    len.min(wanted)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a disk has fewer than 2^31 blocks, and offsets are checked"
)]
fn block_of(offset: u64) -> u32 {
    (offset / BLOCK_BYTES) as u32
}

fn within_block(offset: u64) -> usize {
    (offset % BLOCK_BYTES) as usize
}

/// A file of the disk, borrowed for one call.
type FileRef<'a> = BorrowedFd<'a>;

#[cfg(test)]
mod tests;

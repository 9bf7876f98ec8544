//! The layers of a disk: files that share one number space of blocks, each holding the numbers from its first on.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::extents::Extents;
use super::index::NUMBERS;
use super::{BLOCK_BYTES, FileRef};
use crate::virtio::Scatter;

#[derive(Debug)]
pub(super) struct LayerStore {
    /// Oldest first. Never empty; the last one is writable.
    layers: Vec<Layer>,
    /// Number after the highest one ever given out.
    next: u32,
    /// Numbers of the writable layer that have been given out and back.
    free: Extents,
}

#[derive(Debug)]
struct Layer {
    /// Number of the block at offset 0 of the file.
    first: u32,
    /// Blocks of the disk that lie here.
    live: u32,
    file: File,
}

impl LayerStore {
    pub(super) fn new(file: File) -> Self {
        Self {
            layers: vec![Layer::new(0, file)],
            next: 0,
            free: Extents::default(),
        }
    }

    /// Goes on with a new writable layer. Free places of the one before stay unused: others may share it.
    pub(super) fn seal(&mut self, file: File) {
        if self.used_bytes() == 0 {
            self.layers.pop();
        }
        self.layers.push(Layer::new(self.next, file));
        self.free = Extents::default();
    }

    /// The same layers in another process, as fork(2) makes them.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn forked(&self) -> io::Result<Self> {
        let layers = self.layers.iter().map(|layer| {
            Ok(Layer {
                first: layer.first,
                live: layer.live,
                file: layer.file.try_clone()?,
            })
        });
        Ok(Self {
            layers: layers.collect::<io::Result<_>>()?,
            next: self.next,
            free: self.free.clone(),
        })
    }

    /// The only layer's file holds this many blocks already.
    pub(super) fn fill(&mut self, blocks: u32) {
        self.next = blocks.min(NUMBERS);
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.layers.iter().map(|layer| layer.file.as_raw_fd())
    }

    /// A block of the disk lies under this number now.
    pub(super) fn link(&mut self, number: u32) {
        if let Some(layer) = self.layer_mut(number) {
            layer.live = layer.live.saturating_add(1);
        }
    }

    /// A block of the disk that lay under this number does no more. A writable place is used again; a sealed layer no
    /// block lies in is closed.
    pub(super) fn unlink(&mut self, number: u32) {
        let writable = self.is_writable(number);
        let Some(layer) = self.layer_mut(number) else {
            return;
        };
        layer.live = layer.live.saturating_sub(1);
        if writable {
            self.release(number);
        } else if layer.live == 0 {
            let index = self.layer_of(number) - 1;
            self.layers.remove(index);
        }
    }

    pub(super) fn is_writable(&self, number: u32) -> bool {
        number >= self.writable_first()
    }

    pub(super) fn same_layer(&self, one: u32, other: u32) -> bool {
        self.layer_of(one) == self.layer_of(other)
    }

    /// Up to `wanted` consecutive numbers of the writable layer, used again before new ones.
    pub(super) fn take(&mut self, wanted: u32) -> Option<(u32, u32)> {
        if let Some(taken) = self.free.take(wanted) {
            return Some(taken);
        }
        let (first, count) = (self.next, wanted.min(NUMBERS - self.next));
        self.next += count;
        (count > 0).then_some((first, count))
    }

    /// Gives a number of the writable layer back.
    pub(super) fn release(&mut self, number: u32) {
        self.free.insert(number);
    }

    pub(super) fn used_bytes(&self) -> u64 {
        u64::from(self.next - self.writable_first() - self.free.len()) * BLOCK_BYTES
    }

    /// Reads at a byte offset of the number space, within one layer; returns how much the file had.
    pub(super) fn read(&self, at: u64, target: &Scatter<'_>) -> io::Result<usize> {
        let (file, offset) = self.locate(at)?;
        target.read_at(file, offset)
    }

    /// Writes at a byte offset of the number space, within the writable layer.
    pub(super) fn write(&self, at: u64, source: &Scatter<'_>) -> io::Result<()> {
        let (file, offset) = self.locate(at)?;
        source.write_all_at(file, offset)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.layers.last().map_or(Ok(()), |layer| layer.file.sync_data())
    }

    fn writable_first(&self) -> u32 {
        self.layers.last().map_or(0, |layer| layer.first)
    }

    fn layer_of(&self, number: u32) -> usize {
        self.layers.partition_point(|layer| layer.first <= number)
    }

    fn layer_mut(&mut self, number: u32) -> Option<&mut Layer> {
        let index = self.layer_of(number).checked_sub(1)?;
        self.layers.get_mut(index)
    }

    fn locate(&self, at: u64) -> io::Result<(FileRef<'_>, u64)> {
        let number = u32::try_from(at / BLOCK_BYTES).map_err(io::Error::other)?;
        let layer = self
            .layer_of(number)
            .checked_sub(1)
            .and_then(|layer| self.layers.get(layer));
        let layer = layer.ok_or(io::ErrorKind::NotFound)?;
        Ok((layer.file.as_fd(), at - u64::from(layer.first) * BLOCK_BYTES))
    }
}

impl Layer {
    fn new(first: u32, file: File) -> Self {
        Self { first, live: 0, file }
    }
}

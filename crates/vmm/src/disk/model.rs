//! The disk against the simplest disk there is, a `Vec<u8>`: what is done to one is done to the other, and both must
//! read the same at all times; and so must clones of the disk, made at any point, each with a vector of its own. One body
//! for the property test and the fuzz target.

#![expect(
    clippy::unwrap_used,
    reason = "test code, though the fuzz crate compiles it without `cfg(test)`"
)]

use std::fs::File;

use super::{BLOCK_BYTES, Disk};
use crate::virtio::Scatter;

/// 24 blocks: small enough that operations meet, and the base ends in the middle of one.
const DISK_BYTES: usize = 24 * 4096;
const BASE_BYTES: usize = 10 * 4096 + 1234;
/// Bytes of input that make one operation.
const OPERATION_BYTES: usize = 6;

/// Most disks at a time: a first one and clones of it, of any depth.
const DISKS_MAX: usize = 6;

/// A disk and what must be on it.
struct Pair {
    disk: Disk,
    model: Vec<u8>,
}

/// Runs the operations that `data` spells.
///
/// # Panics
/// A disk does not do what its model does.
pub fn fuzz_disk(data: &[u8]) {
    let base: Vec<u8> = (0..=250).cycle().take(BASE_BYTES).collect();
    let mut model = base.clone();
    model.resize(DISK_BYTES, 0);
    let disk = Disk::new(file_with(&base), file_with(&[]), DISK_BYTES as u64).unwrap();
    let mut pairs = vec![Pair { disk, model }];

    for (step, operation) in data.chunks_exact(OPERATION_BYTES).enumerate() {
        let [kind, .., flags] = *operation else { continue };
        let which = usize::from(flags >> 1) % pairs.len();
        match kind % 16 {
            14 if pairs.len() < DISKS_MAX => {
                let clone = pairs[which].cloned();
                pairs.push(clone);
            }
            15 if pairs.len() > 1 => drop(pairs.swap_remove(which)),
            13 => pairs[which].disk = saved_and_restored(&pairs[which].disk, &base),
            _ => pairs[which].operate(step, operation),
        }
    }
    for Pair { disk, model } in &pairs {
        let mut bytes = vec![0xee; DISK_BYTES];
        disk.read(0, &in_two(&mut bytes)).unwrap();
        assert!(bytes == *model, "a disk differs from its model at the end");
    }
}

impl Pair {
    fn operate(&mut self, step: usize, operation: &[u8]) {
        let Self { disk, model } = self;
        let word = |at: usize| usize::from(u16::from_le_bytes([operation[at], operation[at + 1]]));
        // Some operations are of whole blocks, as most of a guest's are.
        let (mut offset, mut len) = (word(1) * 2 % DISK_BYTES, word(3) % (6 * 4096));
        if operation[5] & 1 == 0 {
            (offset, len) = (offset / 4096 * 4096, len / 4096 * 4096);
        }
        let len = len.min(DISK_BYTES - offset);
        let (range, at, len) = (offset..offset + len, offset as u64, len as u64);
        match operation[0] % 8 {
            0..=2 => {
                let mut bytes = vec![u8::try_from(step % 255).unwrap() + 1; range.len()];
                model[range].copy_from_slice(&bytes);
                disk.write(at, &in_two(&mut bytes)).unwrap();
            }
            3 => {
                let whole = (offset.next_multiple_of(4096)).min(range.end)..range.end / 4096 * 4096;
                if whole.start < whole.end {
                    model[whole].fill(0);
                }
                disk.discard(at, len).unwrap();
            }
            4 => {
                model[range].fill(0);
                disk.write_zeros(at, len).unwrap();
            }
            5 => disk.flush().unwrap(),
            6 => disk.seal(file_with(&[])),
            _ => {
                let mut bytes = vec![0xee; range.len()];
                disk.read(at, &in_two(&mut bytes)).unwrap();
                assert!(bytes == model[range], "a read differs after {step} steps");
            }
        }
        assert!(
            disk.layer_bytes() <= DISK_BYTES as u64,
            "a layer outgrew the disk"
        );
        // No more layers than blocks: an empty one is not kept, but for the one that is written.
        assert!(disk.layers.descriptors().count() <= DISK_BYTES / 4096 + 1);
        let beyond = disk.size_bytes() - at + 1;
        disk.discard(at, beyond).unwrap_err();
        disk.write_zeros(u64::MAX - BLOCK_BYTES, beyond).unwrap_err();
    }

    /// What parent and child do when the process forks.
    fn cloned(&mut self) -> Self {
        self.disk.share(file_with(&[]));
        let mut disk = Disk {
            base: self.disk.base.try_clone().unwrap(),
            size_bytes: self.disk.size_bytes,
            index: self.disk.index.clone(),
            layers: self.disk.layers.forked().unwrap(),
            dirty: self.disk.dirty,
        };
        disk.seal(file_with(&[]));
        Self {
            disk,
            model: self.model.clone(),
        }
    }
}

/// The disk as it is after a snapshot.
fn saved_and_restored(disk: &Disk, base: &[u8]) -> Disk {
    let layer = file_with(&[]);
    let state = disk.save(&layer).unwrap();
    Disk::restore(file_with(base), layer, &state, file_with(&[])).unwrap()
}

/// The bytes as two pieces.
fn in_two(bytes: &mut [u8]) -> Scatter<'_> {
    let middle = bytes.len() / 3;
    let (one, two) = bytes.split_at_mut(middle);
    let mut scatter = Scatter::from(one);
    scatter.append(&Scatter::from(two));
    scatter
}

fn file_with(bytes: &[u8]) -> File {
    use std::io::Write;
    use vmm_sys_util::tempfile::TempFile;
    let mut file = TempFile::new().unwrap();
    file.remove().unwrap();
    file.as_file().write_all(bytes).unwrap();
    file.into_file()
}

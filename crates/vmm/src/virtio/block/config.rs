//! The block device's configuration space, virtio 1.2 section 5.2.4.

/// Data segments of one request: what fits in half the queue with header and status.
pub const SEGMENTS_MAX: u32 = 126;

/// Sectors one discard or write-zeroes segment may name: 64 MiB, so that a request is over in milliseconds.
pub const DISCARD_SECTORS_MAX: u32 = 128 * 1024;

/// Segments of one discard or write-zeroes request.
pub(super) const DISCARD_SEGMENTS_MAX: u32 = 8;

const LOGICAL_BLOCK_BYTES: u32 = 512;
/// Physical blocks are 2^3 logical ones: 4 KiB, the unit of the disk's index. Smaller writes work, but cost a read.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;
const SECTORS_PER_PHYSICAL_BLOCK: u32 = 1 << PHYSICAL_BLOCK_EXPONENT;

pub(super) fn bytes(capacity_sectors: u64) -> Vec<u8> {
    let mut config = vec![0; 60];
    let mut put = |offset: usize, value: &[u8]| config[offset..offset + value.len()].copy_from_slice(value);
    put(0, &capacity_sectors.to_le_bytes());
    put(12, &SEGMENTS_MAX.to_le_bytes());
    put(20, &LOGICAL_BLOCK_BYTES.to_le_bytes());
    put(24, &[PHYSICAL_BLOCK_EXPONENT, 0]);
    // Minimum I/O size, in logical blocks; no optimal size.
    put(26, &[1 << PHYSICAL_BLOCK_EXPONENT, 0]);
    put(36, &DISCARD_SECTORS_MAX.to_le_bytes());
    put(40, &DISCARD_SEGMENTS_MAX.to_le_bytes());
    put(44, &SECTORS_PER_PHYSICAL_BLOCK.to_le_bytes());
    put(48, &DISCARD_SECTORS_MAX.to_le_bytes());
    put(52, &DISCARD_SEGMENTS_MAX.to_le_bytes());
    // Writing zeroes may free the blocks.
    put(56, &[1]);
    config
}

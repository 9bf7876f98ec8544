//! Behaviour of the disk that the model does not show.

use std::fs::{File, OpenOptions};

use proptest::prelude::*;

use super::*;

const SIZE: u64 = 64 * BLOCK_BYTES;

fn disk() -> (Disk, File) {
    let layer = tempfile::tempfile().unwrap();
    let disk = Disk::new(tempfile::tempfile().unwrap(), layer.try_clone().unwrap(), SIZE).unwrap();
    (disk, layer)
}

fn write(disk: &mut Disk, offset: u64, byte: u8, len: usize) -> Result<(), DiskError> {
    disk.write(offset, &Scatter::from(&mut vec![byte; len][..]))
}

fn read(disk: &Disk, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    disk.read(offset, &Scatter::from(&mut bytes[..])).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn it_reads_as_a_plain_vector_would(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        model::fuzz_disk(&data);
    }
}

#[test]
fn a_block_is_overwritten_in_place_and_its_place_is_used_again() {
    let (mut disk, layer) = disk();
    for round in 0..10 {
        write(&mut disk, 0, round, 8 * BLOCK).unwrap();
    }
    assert_eq!(layer.metadata().unwrap().len(), 8 * BLOCK_BYTES);
    disk.discard(0, 8 * BLOCK_BYTES).unwrap();
    assert_eq!(disk.layer_bytes(), 0);
    write(&mut disk, 32 * BLOCK_BYTES, 7, 8 * BLOCK).unwrap();
    assert_eq!(layer.metadata().unwrap().len(), 8 * BLOCK_BYTES);
    assert_eq!(read(&disk, 32 * BLOCK_BYTES, 8 * BLOCK), vec![7; 8 * BLOCK]);
    assert_eq!(read(&disk, 0, BLOCK), vec![0; BLOCK]);
}

#[test]
fn a_sealed_layer_is_never_written() {
    let (mut disk, first) = disk();
    write(&mut disk, 0, 1, 4 * BLOCK).unwrap();
    disk.seal(tempfile::tempfile().unwrap());
    write(&mut disk, 100, 2, 2 * BLOCK).unwrap();
    disk.discard(0, BLOCK_BYTES).unwrap();
    write(&mut disk, 0, 3, 10).unwrap();
    let mut sealed = vec![0; 4 * BLOCK];
    let len = Scatter::from(&mut sealed[..]).read_at(first.as_fd(), 0).unwrap();
    assert_eq!((len, sealed), (4 * BLOCK, vec![1; 4 * BLOCK]));
    assert_eq!(read(&disk, 3 * BLOCK_BYTES, 1), [1]);
}

#[test]
fn a_full_host_disk_is_an_error_and_the_old_content_stays() {
    // /dev/full takes no byte; a write to a block elsewhere fails after a place was taken for it.
    let full = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut base = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut base, &[9; BLOCK]).unwrap();
    let mut disk = Disk::new(base, full, SIZE).unwrap();
    for len in [BLOCK, 17] {
        let error = write(&mut disk, 0, 1, len).unwrap_err();
        assert!(matches!(error, DiskError::WriteLayer(error) if error.kind() == io::ErrorKind::StorageFull));
    }
    assert_eq!(disk.layer_bytes(), 0);
    assert_eq!(read(&disk, 0, BLOCK), vec![9; BLOCK]);
}

#[test]
fn ranges_beyond_the_disk_are_refused_without_overflow() {
    let (mut disk, _layer) = disk();
    for (offset, len) in [
        (SIZE, 1),
        (SIZE - 1, 2),
        (u64::MAX, 1),
        (0, SIZE + 1),
        (1, u64::MAX),
    ] {
        disk.discard(offset, len).unwrap_err();
        disk.write_zeros(offset, len).unwrap_err();
        disk.check(offset, len).unwrap_err();
    }
    disk.discard(SIZE, 0).unwrap();
}

#[test]
fn a_cut_layer_is_an_error_and_not_zeros() {
    let (mut disk, layer) = disk();
    write(&mut disk, 0, 1, 2 * BLOCK).unwrap();
    layer.set_len(BLOCK_BYTES).unwrap();
    let mut bytes = vec![0; 2 * BLOCK];
    let error = disk.read(0, &Scatter::from(&mut bytes[..])).unwrap_err();
    assert!(matches!(error, DiskError::ReadLayer(_)));
}

#[test]
fn sizes_no_disk_can_have_are_refused() {
    for size in [0, 1, BLOCK_BYTES + 1, u64::MAX, u64::MAX - BLOCK_BYTES + 1] {
        let (base, layer) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        assert!(matches!(
            Disk::new(base, layer, size),
            Err(DiskError::Size { .. })
        ));
    }
}

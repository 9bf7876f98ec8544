//! Files that are not what they were.

use proptest::prelude::*;

use super::format::{FormatError, decode, encode};
use super::*;

type Sample = (String, Vec<u32>, Option<[u8; 3]>);

impl Stored for Sample {
    const MAGIC: [u8; 8] = *b"a sample";
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(sample: Sample) {
        let bytes = encode(&sample).unwrap();
        prop_assert_eq!(decode::<Sample>(&bytes).unwrap(), sample);
    }

    #[test]
    fn any_damage_is_noticed(sample: Sample, at: prop::sample::Index, bits in 1..=255_u8) {
        let mut bytes = encode(&sample).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        prop_assert!(decode::<Sample>(&bytes).is_err());
    }

    #[test]
    fn any_cut_is_noticed(sample: Sample, at: prop::sample::Index, more: u8) {
        let mut bytes = encode(&sample).unwrap();
        prop_assert!(decode::<Sample>(&bytes[..at.index(bytes.len())]).is_err());
        bytes.push(more);
        prop_assert!(matches!(decode::<Sample>(&bytes), Err(FormatError::Length)));
    }

    /// Bodies that have the right checksum and are anything else.
    #[test]
    fn any_body_is_decoded_or_refused(body: Vec<u8>) {
        drop(postcard::take_from_bytes::<Document>(&body));
        drop(decode::<Document>(&body));
    }
}

#[test]
fn a_directory_without_a_snapshot_is_none() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Source::open(dir.path()),
        Err(SnapshotError::Read { .. })
    ));
    let target = Target::create(dir.path()).unwrap();
    drop(target);
    // Files, but no state: a process that died at it.
    assert!(matches!(
        Source::open(dir.path()),
        Err(SnapshotError::Read { .. })
    ));
    assert!(matches!(
        Target::create(dir.path()),
        Err(SnapshotError::Make { .. })
    ));
}

#[test]
fn memory_of_another_snapshot_or_cut_memory_is_refused() {
    let file = tempfile::tempfile().unwrap();
    let memory = memory::allocate(64).unwrap();
    let id = SnapshotId::new().unwrap();
    let proc = crate::proc::Proc::open_self().unwrap();
    write_memory(&memory, memory::PageSource(&proc), id, &file).unwrap();
    let ram = 64 << 20;
    memory_file::check(&file, ram, id).unwrap();
    let other = SnapshotId::new().unwrap();
    assert!(matches!(
        memory_file::check(&file, ram, other),
        Err(MemoryFileError::NotThis)
    ));
    file.set_len(ram + 15).unwrap();
    assert!(matches!(
        memory_file::check(&file, ram, id),
        Err(MemoryFileError::NotThis)
    ));
}

#[test]
fn memory_comes_back_as_it_was_and_zeros_take_no_room() {
    use std::os::unix::fs::MetadataExt as _;
    use vm_memory::{Bytes as _, GuestAddress};

    let file = tempfile::tempfile().unwrap();
    let memory = memory::allocate(64).unwrap();
    let places = [0, 4095, 0x20_0000, 0x123_4567, (64 << 20) - 1];
    for place in places {
        memory.write_obj(7_u8, GuestAddress(place)).unwrap();
    }
    // Touched, but zero.
    memory.write_slice(&[0; 8192], GuestAddress(0x30_0000)).unwrap();
    let proc = crate::proc::Proc::open_self().unwrap();
    let pages = memory::PageSource(&proc);
    write_memory(&memory, pages, SnapshotId::new().unwrap(), &file).unwrap();
    assert!(file.metadata().unwrap().blocks() * 512 <= 6 * 4096);
    let mapped = memory::map(64, file).unwrap();
    for address in (0..64 << 20).step_by(4096) {
        let mut page = [[0; 4096], [0; 4096]];
        memory.read_slice(&mut page[0], GuestAddress(address)).unwrap();
        mapped.read_slice(&mut page[1], GuestAddress(address)).unwrap();
        assert!(page[0] == page[1], "{address:#x}");
    }
    // What is written to the mapping stays out of the file, and is found again when it is saved.
    mapped.write_obj(9_u8, GuestAddress(0x40_0000)).unwrap();
    let second = tempfile::tempfile().unwrap();
    write_memory(&mapped, pages, SnapshotId::new().unwrap(), &second).unwrap();
    let again = memory::map(64, second).unwrap();
    assert_eq!(again.read_obj::<u8>(GuestAddress(0x40_0000)).unwrap(), 9);
    assert!(
        places
            .iter()
            .all(|place| again.read_obj::<u8>(GuestAddress(*place)).unwrap() == 7)
    );
    assert_eq!(mapped.read_obj::<u8>(GuestAddress(0)).unwrap(), 7);
}

//! Recording and reading back.

use proptest::prelude::*;
use vm_memory::{Bytes as _, GuestAddress};

use super::*;
use crate::memory::{self, PageSource};
use crate::proc::Proc;

const PAGE: u64 = 4096;

#[test]
fn what_was_written_and_what_was_read_are_told_apart() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(64 << 20).unwrap();
    let memory = memory::map(64, file).unwrap();
    memory.write_obj(1_u8, GuestAddress(5 * PAGE)).unwrap();
    memory.write_slice(&[1; 4097], GuestAddress(6 * PAGE)).unwrap();
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x200 * PAGE)).unwrap(), 0);
    let snapshot = SnapshotId::new().unwrap();
    let set = record(&memory, PageSource(&Proc::open_self().unwrap()), snapshot).unwrap();
    assert_eq!(set.written, [PageRange { first: 5, count: 3 }]);
    let read = |page: u32| {
        set.read
            .iter()
            .any(|range| (range.first..range.first + range.count).contains(&page))
    };
    assert!(read(0x200) && !read(6) && !read(0x300));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set");
    set.save(&path).unwrap();
    assert_eq!(WorkingSet::open(&path, snapshot, 64 << 8).unwrap(), set);
    assert!(matches!(set.save(&path), Err(WorkingSetError::Write { .. })));
    assert!(matches!(
        WorkingSet::open(&path, SnapshotId::new().unwrap(), 64 << 8),
        Err(WorkingSetError::OtherSnapshot)
    ));
    assert!(matches!(
        WorkingSet::open(&path, snapshot, 7),
        Err(WorkingSetError::OutsideMemory)
    ));
}

#[test]
fn populated_pages_are_there_and_hold_what_the_file_holds() {
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 8192], 3 * PAGE).unwrap();
    file.set_len(64 << 20).unwrap();
    let memory = memory::map(64, file).unwrap();
    let set = WorkingSet {
        snapshot: SnapshotId::new().unwrap(),
        written: vec![
            PageRange { first: 4, count: 2 },
            PageRange { first: 100, count: 1 },
        ],
        read: Vec::new(),
    };
    populate(&set, &memory);
    let found = record(&memory, PageSource(&Proc::open_self().unwrap()), set.snapshot).unwrap();
    assert_eq!(found.written, set.written);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(4 * PAGE)).unwrap(), 7);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(5 * PAGE)).unwrap(), 0);
}

proptest! {
    #[test]
    fn any_ranges_are_within_memory_or_refused(ranges: Vec<(u32, u32)>, pages: u64) {
        let ranges: Vec<_> = ranges.into_iter().map(|(first, count)| PageRange { first, count }).collect();
        if is_within(&ranges, pages) {
            prop_assert!(ranges.iter().all(|range| u64::from(range.first) + u64::from(range.count) <= pages));
        }
    }
}

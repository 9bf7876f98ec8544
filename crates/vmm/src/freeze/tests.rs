//! What is frozen comes back, and files that are not what they were are refused.

use std::fs;

use proptest::prelude::*;
use vm_memory::{Bytes as _, GuestAddress};

use super::*;
use crate::memory::PAGEMAP;
use crate::proc::Proc;

const RAM_MIB: u32 = 64;
const SIZE: VmSize = VmSize {
    vcpus: 1,
    ram_mib: RAM_MIB,
    disk_gib: 0,
};
const PAGE: u64 = 4096;
const PAGES: u64 = (RAM_MIB as u64) << 8;

/// A document without anything in it.
fn document() -> Document {
    let (mut document, _): (Document, _) = postcard::take_from_bytes(&[0; 65536]).unwrap();
    document.ram_mib = RAM_MIB;
    document
}

/// The memory of a template's snapshot: a directory with it, and its id.
fn template() -> (tempfile::TempDir, SnapshotId) {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory::allocate(RAM_MIB).unwrap();
    for page in (0..PAGES).step_by(3) {
        let content = [u8::try_from(page % 251).unwrap() | 1; 4096];
        memory.write_slice(&content, GuestAddress(page * PAGE)).unwrap();
    }
    let id = SnapshotId::new().unwrap();
    let file = File::create_new(dir.path().join("memory")).unwrap();
    let proc = Proc::open_self().unwrap();
    snapshot::write_memory(&memory, memory::PageSource(&proc), id, &file).unwrap();
    (dir, id)
}

/// Freezes what has this memory and a disk of some bytes.
fn freeze(
    memory: &GuestMemory,
    (base, overlay): (Option<SnapshotId>, &[Run]),
    (knows_pages, whole): (bool, bool),
) -> (tempfile::TempDir, FreezeReport) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = dir.path().join(name);
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap()
    };
    let proc = Proc::open_self().unwrap();
    let files = Files {
        memory: file(FROZEN_MEMORY),
        disk: file(FROZEN_DISK),
        state: file(FROZEN_STATE),
        pagemap: knows_pages.then(|| proc.open(PAGEMAP).unwrap()),
        whole,
    };
    files.disk.write_all_at(&[7; 3 * 4096], 0).unwrap();
    let delta = write_memory(memory, overlay, &files).unwrap();
    let now = Instant::now();
    let report = write_state(&files, document(), base, delta, (now, now)).unwrap();
    (dir, report)
}

fn same(one: &GuestMemory, other: &GuestMemory) -> bool {
    (0..PAGES).all(|page| {
        let mut pages = [[0; 4096], [0; 4096]];
        one.read_slice(&mut pages[0], GuestAddress(page * PAGE)).unwrap();
        other
            .read_slice(&mut pages[1], GuestAddress(page * PAGE))
            .unwrap();
        pages[0] == pages[1]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn memory_comes_back_over_any_base_and_again_after_another_freeze(
        ranges in proptest::collection::vec((0..PAGES - 64, 1..64_u64, 0..4_u8), 0..40),
        later in proptest::collection::vec((0..PAGES, 0..3_u8), 0..40),
        (based, how) in any::<(bool, (bool, bool))>(),
    ) {
        let (template, id) = template();
        let base = based.then_some(id);
        let memory = match base {
            Some(id) => snapshot::open_memory(template.path(), RAM_MIB, id).unwrap(),
            None => memory::allocate(RAM_MIB).unwrap(),
        };
        for (first, count, value) in ranges {
            for page in first..first + count {
                memory.write_slice(&[value; 4096], GuestAddress(page * PAGE)).unwrap();
            }
        }
        let (space, _) = freeze(&memory, (base, &[]), how);
        let thawed = Thawed::open(space.path(), template.path(), SIZE).unwrap();
        prop_assert!(same(&memory, &thawed.memory));
        // The space is used up and removed, which takes nothing from who was made of it.
        drop(space);
        for (page, value) in later {
            for memory in [&memory, &thawed.memory] {
                memory.write_slice(&[value; 4096], GuestAddress(page * PAGE)).unwrap();
            }
        }
        let (again, _) = freeze(&thawed.memory, (thawed.base, &thawed.overlay), how);
        let twice = Thawed::open(again.path(), template.path(), SIZE).unwrap();
        prop_assert!(same(&memory, &twice.memory));
    }
}

#[test]
fn only_what_differs_is_stored() {
    let (template, id) = template();
    let memory = snapshot::open_memory(template.path(), RAM_MIB, id).unwrap();
    // Written with what was there.
    let mut page = [0; 4096];
    memory.read_slice(&mut page, GuestAddress(3 * PAGE)).unwrap();
    memory.write_slice(&page, GuestAddress(3 * PAGE)).unwrap();
    // And with zeros, where something was.
    memory.write_slice(&[0; 4096], GuestAddress(6 * PAGE)).unwrap();
    let (_space, report) = freeze(&memory, (Some(id), &[]), (true, false));
    assert_eq!(
        (report.pages_changed, report.runs, report.memory_bytes),
        (1, 1, 0)
    );
    memory.write_slice(&[9; 100], GuestAddress(40 * PAGE)).unwrap();
    let (_space, report) = freeze(&memory, (Some(id), &[]), (true, false));
    assert_eq!(
        (report.pages_changed, report.runs, report.memory_bytes),
        (2, 2, PAGE)
    );
}

#[test]
fn a_byte_changed_anywhere_or_a_cut_is_refused() {
    let memory = memory::allocate(RAM_MIB).unwrap();
    memory
        .write_slice(&[5; 3 * 4096], GuestAddress(40 * PAGE))
        .unwrap();
    let (space, _) = freeze(&memory, (None, &[]), (true, false));
    let refused = || {
        Thawed::open(space.path(), space.path(), SIZE)
            .map(drop)
            .unwrap_err()
    };
    Thawed::open(space.path(), space.path(), SIZE).unwrap();
    for (name, step) in [(FROZEN_MEMORY, 509), (FROZEN_DISK, 509), (FROZEN_STATE, 1)] {
        let path = space.path().join(name);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let error = refused();
            assert!(
                matches!(error, ThawError::Format(_) | ThawError::Damaged { .. }),
                "{name} {at}: {error}"
            );
        }
        for len in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..len]).unwrap();
            refused();
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(refused(), ThawError::Read { .. }));
        fs::write(&path, &whole).unwrap();
    }
    Thawed::open(space.path(), space.path(), SIZE).unwrap();
}

#[test]
fn what_is_larger_than_it_counts_for_is_refused() {
    let memory = memory::allocate(RAM_MIB).unwrap();
    let (space, _) = freeze(&memory, (None, &[]), (true, false));
    let size = VmSize {
        ram_mib: RAM_MIB - 1,
        ..SIZE
    };
    let refused = Thawed::open(space.path(), space.path(), size).unwrap_err();
    assert!(matches!(refused, ThawError::Larger), "{refused}");
}

#[test]
fn memory_of_another_template_is_no_base() {
    let ((template, id), (other, _)) = (template(), template());
    let memory = snapshot::open_memory(template.path(), RAM_MIB, id).unwrap();
    let (space, _) = freeze(&memory, (Some(id), &[]), (true, false));
    Thawed::open(space.path(), template.path(), SIZE).unwrap();
    let refused = Thawed::open(space.path(), other.path(), SIZE).unwrap_err();
    assert!(matches!(refused, ThawError::Base(_)), "{refused}");
}

#[test]
fn a_full_disk_is_an_error() {
    let memory = memory::allocate(RAM_MIB).unwrap();
    memory.write_slice(&[5; 4096], GuestAddress(0)).unwrap();
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let files = Files {
        disk: full.try_clone().unwrap(),
        state: full.try_clone().unwrap(),
        memory: full,
        pagemap: None,
        whole: false,
    };
    let error = write_memory(&memory, &[], &files).unwrap_err();
    let FreezeError::Memory(DeltaError::Write(error)) = error else {
        panic!("{error}");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn descriptors_are_counted() {
    let pipe = || OwnedFd::from(io::pipe().unwrap().0);
    let config = FreezeConfig {
        pagemap: true,
        whole: false,
    };
    assert!(matches!(
        Files::new(config, vec![pipe(), pipe(), pipe()]),
        Err(FreezeError::Descriptors { came: 3, needed: 4 })
    ));
    assert!(
        Files::new(config, vec![pipe(), pipe(), pipe(), pipe()])
            .unwrap()
            .pagemap
            .is_some()
    );
}

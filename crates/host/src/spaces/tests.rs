//! What a space says of itself is what was written, or it is noticed.

use proptest::prelude::*;

use super::meta::{Meta, SavedTerms, Shape};
use super::*;

fn meta() -> Meta {
    Meta {
        version: Meta::VERSION,
        id: SpaceId::from([1; 16]),
        tenant: 7,
        sandbox_id: SandboxId::from([2; 16]),
        template: "default".to_owned(),
        image: "ab".repeat(16),
        base: Some("cd".repeat(16)),
        own_base_bytes: None,
        shape: Shape {
            vcpus: 2,
            ram_mib: 1024,
            rootfs_gb: 4,
            egress: egress::Policy::Open,
            secrets: Vec::new(),
        },
        terms: SavedTerms {
            timeout_seconds: Some(60),
            idle_timeout_seconds: None,
        },
        generation: 1,
        created_at_ms: 1,
        cause: api::FreezeCause::Idle,
        running: false,
        memory_bytes: 10,
        disk_bytes: 20,
        state_bytes: 30,
        replay: String::new(),
        replay_bytes: 40,
    }
}

proptest! {
    #[test]
    fn any_damage_of_the_meta_file_is_noticed(at: prop::sample::Index, bits in 1..=255_u8) {
        let mut bytes = meta().encode().unwrap();
        prop_assert_eq!(Meta::decode(&bytes).unwrap(), meta());
        let at = at.index(bytes.len());
        prop_assert!(Meta::decode(&bytes[..at]).is_err());
        bytes[at] ^= bits;
        prop_assert!(Meta::decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
        prop_assert!(Meta::decode(&bytes).is_err());
    }
}

#[test]
fn a_draft_that_is_not_committed_leaves_nothing_and_one_that_is_counts() {
    let dir = tempfile::tempdir().unwrap();
    let spaces = Spaces::open(dir.path()).unwrap();
    let id = meta().id;
    drop(Draft::begin(&spaces, id).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let draft = Draft::begin(&spaces, id).unwrap();
    let empty = Meta {
        memory_bytes: 0,
        disk_bytes: 0,
        state_bytes: 0,
        ..meta()
    };
    draft.commit(empty, b"said").unwrap();
    let again = Spaces::open(dir.path()).unwrap();
    let claim = Claim::take(&again, id, Tenant(7)).unwrap();
    assert_eq!(claim.replay().unwrap(), b"said");
    assert_eq!(Claim::take(&again, id, Tenant(7)).unwrap_err(), NoSpace::Busy);
    assert_eq!(Claim::take(&again, id, Tenant(8)).unwrap_err(), NoSpace::Unknown);
    drop(claim);
    let consumed = Claim::take(&again, id, Tenant(7))
        .unwrap()
        .consume(SandboxId::from([9; 16]))
        .unwrap();
    assert!(again.find(id, Tenant(7)).is_none());
    consumed.put_back().unwrap();
    Claim::take(&again, id, Tenant(7)).unwrap().remove().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_templates_memory_stays_while_a_space_or_its_snapshot_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spaces, vm) = (dir.path().join("spaces"), dir.path().join("vm"));
    let open = || {
        let spaces = Spaces::open(&spaces).unwrap();
        spaces.settle(|_| false).unwrap();
        spaces
    };
    fs::create_dir(&vm).unwrap();
    let mut memory = vec![0; 100];
    memory.extend([0xcd; 16]);
    fs::write(vm.join("memory"), memory).unwrap();
    let id = "cd".repeat(16);
    open().keep_template(&vm, None).unwrap();
    open().keep_template(&vm, None).unwrap();
    assert!(open().template(&id).is_some());
    assert!(open().template("../vm").is_none());
    let empty = Meta {
        memory_bytes: 0,
        disk_bytes: 0,
        state_bytes: 0,
        ..meta()
    };
    Draft::begin(&open(), meta().id)
        .unwrap()
        .commit(empty, b"")
        .unwrap();
    // The snapshot is made anew.
    fs::remove_dir_all(&vm).unwrap();
    assert!(open().template(&id).is_some());
    Claim::take(&open(), meta().id, Tenant(7))
        .unwrap()
        .remove()
        .unwrap();
    assert!(open().template(&id).is_none());
}

#[test]
fn images_are_told_apart_wherever_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    fs::write(&one, [1; 500_000]).unwrap();
    fs::write(&other, [1; 500_000]).unwrap();
    assert_eq!(image_mark(&one).unwrap(), image_mark(&other).unwrap());
    fs::write(&other, [2; 500_000]).unwrap();
    assert_ne!(image_mark(&one).unwrap(), image_mark(&other).unwrap());
}

#[test]
fn what_was_being_resumed_is_a_space_or_a_sandbox_and_never_both_or_neither() {
    let dir = tempfile::tempdir().unwrap();
    let (id, sandbox) = (meta().id, SandboxId::from([9; 16]));
    let spaces = Spaces::open(dir.path()).unwrap();
    let empty = Meta {
        memory_bytes: 0,
        disk_bytes: 0,
        state_bytes: 0,
        ..meta()
    };
    Draft::begin(&spaces, id).unwrap().commit(empty, b"").unwrap();
    assert!(spaces.is_frozen(meta().sandbox_id) && !spaces.is_frozen(sandbox));
    for there in [false, true] {
        let claim = Claim::take(&spaces, id, Tenant(7)).unwrap();
        // The daemon dies here.
        let consumed = claim.consume(sandbox).unwrap();
        assert!(!spaces.is_frozen(meta().sandbox_id));
        let next = Spaces::open(dir.path()).unwrap();
        assert!(!next.is_frozen(meta().sandbox_id));
        next.settle(|id| there && id == sandbox).unwrap();
        assert_eq!(next.find(id, Tenant(7)).is_some(), !there);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + usize::from(!there));
        if !there {
            // For the next round.
            fs::rename(
                dir.path().join(id.to_string()),
                dir.path().join(format!("{id}.resumed-{sandbox}")),
            )
            .unwrap();
            consumed.put_back().unwrap();
        }
    }
}

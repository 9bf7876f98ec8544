//! Trees survive packing and unpacking, and hostile archives stay in their directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;
use crate::pack;

/// What is below a directory: kind, mode and content of each.
fn tree(home: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![home.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let mode = meta.permissions().mode() & 0o7777;
            let what = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                left.push(path.clone());
                format!("{mode:o}/")
            } else {
                format!("{mode:o} {:?}", fs::read(&path).unwrap())
            };
            found.insert(
                path.strip_prefix(home).unwrap().to_str().unwrap().to_owned(),
                what,
            );
        }
    }
    found
}

fn packed(path: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(path, &mut archive).unwrap();
    archive
}

/// An archive of entries whose names no library would write.
fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let data = if is_link { "" } else { content };
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long = "x".repeat(200);
    let deep = from.path().join(&long).join(&long);
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    fs::write(from.path().join("empty"), "").unwrap();
    fs::write(from.path().join("block"), [7; 512]).unwrap();
    fs::write(from.path().join("tool"), [8; 70_000]).unwrap();
    fs::set_permissions(from.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(from.path().join("private")).unwrap();
    fs::set_permissions(from.path().join("private"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&long, from.path().join("link")).unwrap();
    symlink("/etc/passwd", from.path().join("away")).unwrap();
    let archive = packed(from.path());
    let unpacked = unpack(to.path(), &archive[..], 0o7777).unwrap();
    assert_eq!(tree(to.path()), tree(from.path()));
    assert_eq!((unpacked.entries, unpacked.bytes), (9, 4 + 512 + 70_000));
    let times = |home: &Path| fs::metadata(home.join("tool")).unwrap().mtime();
    assert_eq!(times(to.path()), times(from.path()));
    // Once more, over what is there.
    unpack(to.path(), &archive[..], 0o7777).unwrap();
    assert_eq!(tree(to.path()), tree(from.path()));
    let single = packed(&from.path().join("tool"));
    let other = tempfile::tempdir().unwrap();
    unpack(other.path(), &single[..], 0o777).unwrap();
    assert_eq!(tree(other.path()).len(), 1);
}

#[test]
fn what_leads_out_of_the_target_is_refused_and_writes_nothing_there() {
    let home = tempfile::tempdir().unwrap();
    let (outside, target) = (home.path().join("outside"), home.path().join("target"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    symlink("../outside", target.join("before")).unwrap();
    let (file, link, hard) = (EntryType::Regular, EntryType::Symlink, EntryType::Link);
    let out = outside.to_str().unwrap();
    let absolute = format!("{out}/x");
    let hostile: [&[(EntryType, &str, &str)]; 9] = [
        &[(file, "../outside/x", "x")],
        &[(file, &absolute, "x")],
        &[(file, "a/../../outside/x", "x")],
        &[(link, "l", "../outside"), (file, "l/x", "x")],
        &[(link, "m", out), (file, "m/kept", "x")],
        &[(link, "n", ".."), (link, "n2", "n/outside"), (file, "n2/x", "x")],
        &[(file, "before/x", "x")],
        &[(hard, "h", "../outside/kept")],
        &[(hard, "h", "before/kept")],
    ];
    for entries in hostile {
        let refused = unpack(&target, &archive(entries)[..], 0o7777);
        assert!(
            matches!(refused, Err(FileError::Entry { .. }))
                || refused
                    .as_ref()
                    .is_err_and(|error| error.errno() == Some(rustix::io::Errno::XDEV)),
            "{entries:?}: {refused:?}"
        );
        assert_eq!(
            tree(&outside),
            BTreeMap::from([("kept".to_owned(), format!("644 {:?}", b"kept"))])
        );
    }
}

#[test]
fn links_within_are_made_and_a_file_replaces_a_link_instead_of_following_it() {
    let home = tempfile::tempdir().unwrap();
    let (file, link, hard) = (EntryType::Regular, EntryType::Symlink, EntryType::Link);
    let entries = [
        (file, "d/a", "one"),
        (link, "l", "d"),
        (file, "l/b", "two"),
        (hard, "h", "d/a"),
        (hard, "h", "d/a"),
        (link, "f", "d/a"),
        (file, "f", "three"),
    ];
    unpack(home.path(), &archive(&entries)[..], 0o7777).unwrap();
    let read = |name: &str| fs::read_to_string(home.path().join(name)).unwrap();
    assert_eq!(
        [read("d/a"), read("d/b"), read("h"), read("f")],
        ["one", "two", "one", "three"]
    );
    assert_eq!(fs::metadata(home.path().join("h")).unwrap().nlink(), 2);
    assert_eq!(tree(home.path()).len(), 6);
}

#[test]
fn devices_and_bits_that_are_masked_do_not_come_through() {
    let home = tempfile::tempdir().unwrap();
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let refused = unpack(home.path(), &archive(&[(kind, "dev", "")])[..], 0o7777);
        assert!(matches!(refused, Err(FileError::Entry { .. })), "{refused:?}");
    }
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o6755);
    header.set_size(0);
    builder.append_data(&mut header, "setuid", io::empty()).unwrap();
    unpack(home.path(), &builder.into_inner().unwrap()[..], 0o777).unwrap();
    assert_eq!(tree(home.path())["setuid"], "755 []");
}

#[test]
fn an_archive_that_breaks_off_is_an_error_and_its_last_file_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    let whole = archive(&[
        (EntryType::Regular, "a", "first"),
        (EntryType::Regular, "b", &"x".repeat(2000)),
    ]);
    for end in [600, 512 * 3, 512 * 4] {
        let broken = unpack(home.path(), &whole[..end], 0o7777);
        assert!(broken.is_err(), "{end}: {broken:?}");
        assert!(!home.path().join("b").exists());
    }
    let refused = unpack(
        home.path(),
        &b"\x1f\x8b no archive at all".repeat(100)[..],
        0o7777,
    );
    assert!(matches!(refused, Err(FileError::Archive(_))), "{refused:?}");
    let names: Vec<String> = tree(home.path()).into_keys().collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn a_name_that_goes_on_and_on_is_not_kept_in_memory() {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let source = header.as_bytes().chain(io::repeat(b'a'));
    let refused = unpack(tempfile::tempdir().unwrap().path(), source, 0o7777);
    assert!(matches!(refused, Err(FileError::Archive(_))), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn archives_with_changed_bytes_never_panic_nor_leave(at in 0..4096_usize, byte: u8, cut in 0..4096_usize) {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("target");
        fs::create_dir(&target).unwrap();
        let entries = [(EntryType::Directory, "d", ""), (EntryType::Regular, "d/a", "one"), (EntryType::Symlink, "l", "..")];
        let mut bytes = archive(&entries);
        let len = bytes.len();
        bytes[at % len] = byte;
        bytes.truncate(len - cut % len);
        drop(unpack(&target, &bytes[..], 0o7777));
        prop_assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}

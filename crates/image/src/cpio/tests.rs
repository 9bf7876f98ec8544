//! Reads archives back with a reader of its own and compares.

use super::*;
use proptest::prelude::*;

/// Reads concatenated archives the way the kernel does: to the end, later entries winning.
fn read(mut bytes: &[u8]) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    while !bytes.is_empty() {
        assert_eq!(&bytes[..6], b"070701");
        let field = |index: usize| {
            let text = std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).unwrap();
            u32::from_str_radix(text, 16).unwrap()
        };
        let (data_len, name_len) = (field(6) as usize, field(11) as usize);
        assert_eq!((field(2), field(3), field(5)), (0, 0, 0), "owner and time");
        let name = std::str::from_utf8(&bytes[110..110 + name_len - 1])
            .unwrap()
            .to_owned();
        assert_eq!(bytes[110 + name_len - 1], 0);
        let data_at = (110 + name_len).next_multiple_of(4);
        let data = bytes[data_at..data_at + data_len].to_vec();
        if name != TRAILER {
            if let Some((parent, _)) = name.rsplit_once('/') {
                assert!(entries.contains_key(parent), "{parent} comes before {name}");
            }
            entries.insert(
                name,
                Entry {
                    mode: field(1),
                    device: (field(9), field(10)),
                    data,
                },
            );
        }
        bytes = &bytes[(data_at + data_len).next_multiple_of(4)..];
    }
    entries
}

#[test]
fn every_kind_of_entry_is_written_with_the_directories_above_it() {
    let mut archive = CpioArchive::new();
    archive
        .add_file("/lib/modules/a.ko", 0o644, b"module".to_vec())
        .unwrap();
    archive.add_symlink("bin", "usr/bin").unwrap();
    archive.add_char_device("dev/console", 0o600, (5, 1)).unwrap();
    archive.add_dir("dev", 0o700).unwrap();

    let entries = read(&archive.to_bytes().unwrap());
    assert_eq!(
        entries.keys().collect::<Vec<_>>(),
        [
            "bin",
            "dev",
            "dev/console",
            "lib",
            "lib/modules",
            "lib/modules/a.ko"
        ]
    );
    assert_eq!(
        entries["lib/modules/a.ko"],
        Entry {
            mode: 0o100_644,
            device: (0, 0),
            data: b"module".to_vec()
        }
    );
    assert_eq!(entries["bin"].mode, 0o120_777);
    assert_eq!(entries["bin"].data, b"usr/bin");
    assert_eq!((entries["dev"].mode, entries["lib"].mode), (0o040_700, 0o040_755));
    assert_eq!(
        (entries["dev/console"].mode, entries["dev/console"].device),
        (0o020_600, (5, 1))
    );
}

#[test]
fn paths_that_could_name_something_else_are_refused() {
    for path in [
        "",
        "/",
        "a//b",
        "../a",
        "a/./b",
        "a/..",
        "a/",
        "a\0b",
        "TRAILER!!!",
        &"x".repeat(4096),
    ] {
        assert!(
            matches!(CpioArchive::new().add_dir(path, 0), Err(CpioError::Path { .. })),
            "{path:?}"
        );
    }
}

#[test]
fn a_path_is_given_once_and_lies_in_directories() {
    let mut archive = CpioArchive::new();
    archive.add_file("a", 0o644, Vec::new()).unwrap();
    assert_eq!(
        archive.add_dir("/a", 0o755),
        Err(CpioError::Duplicate { path: "a".to_owned() })
    );
    archive.add_dir("a/b", 0o755).unwrap();
    assert_eq!(
        archive.to_bytes(),
        Err(CpioError::ParentNotDirectory {
            path: "a/b".to_owned()
        })
    );
}

#[test]
fn in_concatenated_archives_the_later_one_wins() {
    let archive = |text: &str| {
        let mut archive = CpioArchive::new();
        archive.add_file("init", 0o755, text.as_bytes().to_vec()).unwrap();
        archive.to_bytes().unwrap()
    };
    let both = [archive("first one"), archive("second")].concat();
    assert_eq!(read(&both)["init"].data, b"second");
}

fn tree() -> impl Strategy<Value = BTreeMap<String, (u32, Vec<u8>)>> {
    let path =
        prop::collection::vec("[a-cé]{1,5}", 1..4).prop_map(|parts| format!("d/{}/f", parts.join("/")));
    prop::collection::btree_map(
        path,
        (0_u32..0o10000, prop::collection::vec(any::<u8>(), 0..40)),
        0..12,
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_whatever_the_order_of_adding(files in tree(), reverse in any::<bool>()) {
        // A name `f` never has anything below it, since the other names are never `f`.
        let mut list: Vec<_> = files.iter().collect();
        if reverse {
            list.reverse();
        }
        let mut archive = CpioArchive::new();
        for (path, (mode, data)) in list {
            archive.add_file(path, *mode, data.clone()).unwrap();
        }
        let bytes = archive.to_bytes().unwrap();
        prop_assert_eq!(bytes.len() % 4, 0);
        let entries = read(&bytes);
        for (path, (mode, data)) in &files {
            prop_assert_eq!(&entries[path], &Entry { mode: MODE_FILE | mode, device: (0, 0), data: data.clone() });
        }
        let found = entries.values().filter(|entry| entry.mode & 0o170_000 == MODE_FILE).count();
        prop_assert_eq!(found, files.len());
    }
}

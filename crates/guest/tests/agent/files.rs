//! What files there are, and what they hold.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use agent_proto::{
    DIGEST_PATHS_MAX, ENTRIES_BODY_MAX, Entry, EntryKind, FailureCode, HEADER_LEN, Inventory, Language,
    Reply, Request,
};

use crate::rig::{Host, Rig, eventually};

/// SHA-256 of "abc", from FIPS 180-2.
const ABC: [u8; 32] = [
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0,
    0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
];

fn ask(host: &mut Host, roots: &[&Path], skip: &[&Path]) {
    let strings = |paths: &[&Path]| {
        paths
            .iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .collect()
    };
    host.send(&Request::Inventory(Inventory {
        roots: strings(roots),
        skip: strings(skip),
    }));
}

#[track_caller]
fn entries(host: &mut Host) -> Vec<Entry> {
    let mut all = Vec::new();
    loop {
        let reply = host.reply();
        assert!(reply.encode().unwrap().len() <= HEADER_LEN + ENTRIES_BODY_MAX);
        match reply {
            Reply::Entries(entries) => all.extend(entries),
            Reply::Done => return all,
            other => panic!("{other:?} in an inventory"),
        }
    }
}

/// Paths below `root`, which is the first.
#[track_caller]
fn names<'a>(entries: &'a [Entry], root: &Path) -> Vec<&'a OsStr> {
    let root = root.as_os_str().as_bytes();
    entries
        .iter()
        .map(|entry| OsStr::from_bytes(entry.path.strip_prefix(root).unwrap()))
        .collect()
}

fn refused(reply: &Reply) -> bool {
    matches!(reply, Reply::Failed(failure) if failure.code == FailureCode::BadRequest)
}

fn digests(host: &mut Host, paths: &[&Path]) -> Vec<Option<[u8; 32]>> {
    let paths = paths
        .iter()
        .map(|path| path.as_os_str().as_bytes().to_vec())
        .collect();
    host.send(&Request::Digests { paths });
    match host.reply() {
        Reply::Digests(digests) => digests,
        other => panic!("{other:?} instead of digests"),
    }
}

#[test]
fn every_kind_of_file_is_listed_in_order_and_pipes_are_not_opened() {
    let rig = Rig::new();
    let home = rig.home();
    fs::create_dir_all(home.join("b/c")).unwrap();
    fs::write(home.join("b/c/file"), "abc").unwrap();
    fs::write(home.join("b.txt"), "").unwrap();
    fs::write(home.join(OsStr::from_bytes(b"b\xff\n")), "").unwrap();
    symlink("b", home.join("link")).unwrap();
    symlink("..", home.join("b/up")).unwrap();
    symlink("nowhere", home.join("a")).unwrap();
    let _socket = UnixListener::bind(home.join("socket")).unwrap();
    let mut host = rig.host();
    host.bash("mkfifo pipe; chmod 2751 b").says("");

    ask(&mut host, &[&home], &[]);
    let entries = entries(&mut host);
    let expected: [&[u8]; 11] = [
        b"",
        b"/a",
        b"/b",
        b"/b/c",
        b"/b/c/file",
        b"/b/up",
        b"/b.txt",
        b"/b\xff\n",
        b"/link",
        b"/pipe",
        b"/socket",
    ];
    assert_eq!(names(&entries, &home), expected.map(OsStr::from_bytes));
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(
        kinds[1..4],
        [EntryKind::Symlink, EntryKind::Directory, EntryKind::Directory]
    );
    assert_eq!(
        kinds[8..],
        [EntryKind::Symlink, EntryKind::Other, EntryKind::Other]
    );
    assert_eq!(entries[2].mode, 0o2751);
    let (file, metadata) = (&entries[4], fs::metadata(home.join("b/c/file")).unwrap());
    assert_eq!(
        (file.kind, file.size, file.inode),
        (EntryKind::File, 3, metadata.ino())
    );
    assert_eq!(
        file.mtime_ns,
        metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec()
    );
    assert_eq!(
        file.ctime_ns,
        metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec()
    );
}

#[test]
fn roots_may_be_anything_and_what_is_skipped_is_left_out_with_all_below_it() {
    let rig = Rig::new();
    let home = rig.home();
    fs::create_dir_all(home.join("keep/not")).unwrap();
    fs::create_dir_all(home.join("not/at/all")).unwrap();
    fs::write(home.join("file"), "").unwrap();
    let mut host = rig.host();
    let (file, none, slashes) = (home.join("file"), home.join("none"), home.join("keep//"));
    ask(&mut host, &[&none, &slashes, &file], &[&home.join("keep/not/")]);
    assert_eq!(names(&entries(&mut host), &home), ["/keep", "/file"]);
    ask(&mut host, &[&home], &[&home.join("not")]);
    assert_eq!(
        names(&entries(&mut host), &home),
        ["", "/file", "/keep", "/keep/not"]
    );
    ask(&mut host, &[&home], &[&home]);
    assert_eq!(entries(&mut host), []);
    ask(&mut host, &[Path::new("relative")], &[]);
    assert!(refused(&host.reply()));
    // The root of all is listed, and other file systems are not.
    let root = fs::metadata("/").unwrap();
    let elsewhere = |entry: &fs::DirEntry| entry.metadata().unwrap().dev() != root.dev();
    let top: Vec<_> = fs::read_dir("/").unwrap().map(Result::unwrap).collect();
    let skip: Vec<_> = top
        .iter()
        .filter(|entry| !elsewhere(entry))
        .map(fs::DirEntry::path)
        .collect();
    ask(
        &mut host,
        &[Path::new("/")],
        &skip.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
    );
    let found = entries(&mut host);
    assert_eq!((found.len(), &*found[0].path), (1, &b"/"[..]));
}

#[test]
fn large_and_deep_trees_are_listed_in_bounded_pieces_and_as_far_as_paths_reach() {
    let rig = Rig::new();
    let home = rig.home();
    let mut host = rig.host();
    host.python("import os\nfor i in range(20_000): os.close(os.open(f'{i:05}', os.O_CREAT))")
        .says("");
    host.python("os.mkdir('deep'); os.chdir('deep')\nfor i in range(2500): os.mkdir('d'); os.chdir('d')")
        .says("");
    ask(&mut host, &[&home], &[]);
    let entries = entries(&mut host);
    let names = names(&entries, &home);
    assert_eq!(
        (names[1], names[20_000]),
        (OsStr::new("/00000"), OsStr::new("/19999"))
    );
    let deepest = entries.last().unwrap().path.len();
    assert!((4090..=4098).contains(&deepest), "{deepest}");
    assert_eq!(
        entries.len() - 20_002,
        (deepest - home.join("deep").as_os_str().len()) / 2
    );
    // Deeper than the rig itself could delete it.
    host.bash("rm -rf deep").says("");
}

#[test]
fn it_goes_on_beside_runs_that_make_and_remove_files() {
    let rig = Rig::new();
    let mut busy = rig.host();
    busy.begin(
        Language::Bash,
        "mkdir -p a/b c; echo on; while [ ! -e stop ]; do touch a/b/{1..50}; mv a c; rm -f c/a/b/*; mv c/a .; done",
        None,
    );
    busy.wait_for_output("on\n");
    let mut host = rig.host();
    for _ in 0..100 {
        ask(&mut host, &[&rig.home()], &[]);
        let entries = entries(&mut host);
        assert!(names(&entries, &rig.home()).contains(&OsStr::new("/c")));
        assert!(entries.windows(2).all(|pair| pair[0].path != pair[1].path));
    }
    assert!(!busy.has_reply());
    fs::write(rig.home().join("stop"), "").unwrap();
    assert_eq!(busy.finish().code, 0);
}

#[test]
fn it_ends_with_its_connection_and_on_a_word_out_of_turn() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("for i in range(20_000): open(f'{i:0200}', 'w').close()")
        .says("");
    let before = rig.connections();
    let mut gone = rig.host();
    ask(&mut gone, &[&rig.home()], &[]);
    gone.wait_for_reply();
    assert_eq!(rig.connections(), before + 1);
    drop(gone);
    let mut rude = rig.host();
    ask(&mut rude, &[&rig.home()], &[]);
    rude.send(&Request::Ping);
    while let Ok(reply) = rude.try_reply() {
        assert!(matches!(reply, Reply::Entries(_)), "{reply:?}");
    }
    eventually("both are closed", || rig.connections() == before);
    rig.clone_machine();
    eventually("a clone lets go of the rest", || rig.has_let_go());
}

#[test]
fn digests_are_of_regular_files_and_nothing_else_is_opened() {
    let rig = Rig::new();
    let home = rig.home();
    fs::write(home.join("abc"), "abc").unwrap();
    fs::write(home.join("large"), vec![7; 300_000]).unwrap();
    fs::write(home.join(OsStr::from_bytes(b"\xff\n")), "abc").unwrap();
    symlink("abc", home.join("link")).unwrap();
    fs::set_permissions(home.join("abc"), fs::Permissions::from_mode(0o400)).unwrap();
    let mut host = rig.host();
    host.bash("mkfifo pipe").says("");
    let sum = host.bash("sha256sum large").out();
    let paths = ["abc", "none", "link", "pipe", "a\0b", "large"].map(|name| home.join(name));
    let odd = home.join(OsStr::from_bytes(b"\xff\n"));
    let mut all: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
    all.extend([&home, &*odd, Path::new("/dev/zero")]);
    let found = digests(&mut host, &all);
    let large: String = found[5]
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(sum.starts_with(&large));
    assert_eq!(found[..5], [Some(ABC), None, None, None, None]);
    assert_eq!(found[6..], [None, Some(ABC), None]);
}

#[test]
fn digests_are_of_a_bounded_number_of_absolute_paths() {
    let rig = Rig::new();
    let mut host = rig.host();
    assert_eq!(digests(&mut host, &[]), []);
    let none = Path::new("/none");
    assert_eq!(
        digests(&mut host, &[none; DIGEST_PATHS_MAX]),
        [None; DIGEST_PATHS_MAX]
    );
    for paths in [
        vec![b"/none".to_vec(); DIGEST_PATHS_MAX + 1],
        vec![b"none".to_vec()],
    ] {
        host.send(&Request::Digests { paths });
        assert!(refused(&host.reply()));
    }
}

//! Removing trees, and moving them as archives.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use agent_proto::Reply;
use agent_proto::files::{FileProblem, FileReply, FileRequest};

use crate::ask::{bytes, names};
use crate::rig::{Host, Rig, eventually};

fn removing(path: &Path, recursive: bool) -> FileRequest {
    let path = bytes(path);
    FileRequest::Remove { path, recursive }
}

#[track_caller]
fn pack(host: &mut Host, path: &Path) -> Vec<u8> {
    host.ask(FileRequest::Pack { path: bytes(path) });
    assert_eq!(host.opened().length, None);
    host.content()
}

#[track_caller]
fn unpack(host: &mut Host, path: &Path, archive: &[u8]) -> Reply {
    host.ask(FileRequest::Unpack { path: bytes(path) });
    assert_eq!(host.reply(), Reply::Done);
    host.pieces(archive);
    host.ask(FileRequest::Commit);
    host.reply()
}

#[test]
fn removing_takes_what_is_named_and_follows_no_link() {
    let rig = Rig::new();
    let mut host = rig.host();
    let at = |name: &str| rig.home().join(name);
    fs::create_dir_all(at("tree/a/b")).unwrap();
    fs::write(at("tree/a/b/file"), "x").unwrap();
    fs::create_dir(at("kept")).unwrap();
    fs::write(at("kept/file"), "kept").unwrap();
    symlink(at("kept"), at("tree/a/link")).unwrap();
    symlink("kept", at("link")).unwrap();
    assert_eq!(host.problem(removing(&at("tree"), false)), FileProblem::NotEmpty);
    assert_eq!(host.problem(removing(&at("none"), true)), FileProblem::NotFound);
    for never in [Path::new("/"), Path::new("/.."), &at("tree/."), &at("tree/..")] {
        assert_eq!(
            host.problem(removing(never, true)),
            FileProblem::NotPermitted,
            "{never:?}"
        );
    }
    for path in [at("tree"), at("link/")] {
        host.ask(removing(&path, true));
        assert_eq!(host.reply(), Reply::Done);
    }
    assert_eq!(names(&rig.home()), ["kept"]);
    assert_eq!(fs::read(at("kept/file")).unwrap(), b"kept");
}

#[test]
fn a_tree_of_any_depth_is_removed() {
    let rig = Rig::new();
    let mut host = rig.host();
    // Deeper than any path can say, with a file at each tenth level.
    let script = "import os\nos.mkdir('deep'); os.chdir('deep')\n\
        for n in range(5000):\n    os.mkdir('dddd'); os.chdir('dddd')\n    n % 10 or open('f', 'w').close()\nos.chdir('/')";
    host.python(script).says("");
    let deep = rig.home().join("deep");
    host.ask(removing(&deep, true));
    assert_eq!(host.reply(), Reply::Done);
    assert!(!deep.exists());
}

#[test]
fn a_tree_is_packed_and_unpacked() {
    let rig = Rig::new();
    let mut host = rig.host();
    let (from, to) = (rig.home().join("from"), rig.home().join("to/new"));
    fs::create_dir_all(from.join("a/b")).unwrap();
    fs::write(from.join("a/b/large"), vec![3; 300_000]).unwrap();
    symlink("b/large", from.join("a/link")).unwrap();
    let archive = pack(&mut host, &from);
    let reply = unpack(&mut host, &to, &archive);
    assert_eq!(
        reply,
        Reply::File(FileReply::Unpacked {
            entries: 4,
            bytes: 300_000
        })
    );
    assert_eq!(fs::read(to.join("a/link")).unwrap(), vec![3; 300_000]);
    assert_eq!(
        host.problem(FileRequest::Pack {
            path: bytes(&from.join("none"))
        }),
        FileProblem::NotFound
    );
}

#[test]
fn a_bad_archive_is_told_in_the_middle_and_the_connection_can_be_used_again() {
    let rig = Rig::new();
    let mut host = rig.host();
    let target = rig.home().join("target");
    let reply = unpack(&mut host, &target, &vec![b'x'; 1 << 20]);
    let Reply::File(FileReply::Refused(refusal)) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(refusal.problem, FileProblem::BadArchive);
    assert!(!target.exists());
    assert_eq!(
        unpack(&mut host, &target, &[]),
        Reply::File(FileReply::Unpacked { entries: 0, bytes: 0 })
    );
}

#[test]
fn an_upload_that_breaks_off_leaves_no_part_of_a_file() {
    let rig = Rig::new();
    let from = rig.home().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("large"), vec![3; 300_000]).unwrap();
    let mut host = rig.host();
    let archive = pack(&mut host, &from);
    let to = rig.home().join("to");
    host.ask(FileRequest::Unpack { path: bytes(&to) });
    assert_eq!(host.reply(), Reply::Done);
    host.pieces(&archive[..200_000]);
    drop(host);
    eventually("nothing is left of it", || !to.exists());
}

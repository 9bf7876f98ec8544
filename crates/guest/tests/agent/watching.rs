//! What happens to files, told as it happens.

use std::fs;
use std::path::Path;

use agent_proto::Reply;
use agent_proto::files::{Change, ChangeKind, FileProblem, FileReply, FileRequest};

use crate::ask::{bytes, writing};
use crate::rig::{Host, Rig, eventually};

#[track_caller]
fn watch(rig: &Rig, path: &Path, recursive: bool) -> Host {
    let mut host = rig.host();
    let path = bytes(path);
    host.ask(FileRequest::Watch { path, recursive });
    assert_eq!(host.reply(), Reply::Done);
    host
}

/// Changes up to one that is looked for.
#[track_caller]
fn until(host: &mut Host, wanted: impl Fn(&Change) -> bool) -> Vec<Change> {
    let mut seen = Vec::new();
    while !seen.iter().any(&wanted) {
        match host.reply() {
            Reply::File(FileReply::Changes(changes)) => seen.extend(changes),
            other => panic!("{other:?} while watching"),
        }
    }
    seen
}

fn is(kind: ChangeKind, path: &Path) -> impl Fn(&Change) -> bool {
    let path = bytes(path);
    move |change| change.kind == kind && change.path == path
}

#[test]
fn files_that_come_change_move_and_go_are_told_with_their_paths() {
    let rig = Rig::new();
    let home = rig.home();
    let mut host = watch(&rig, &home, false);
    let at = |name: &str| home.join(name);
    fs::write(at("a"), "1").unwrap();
    until(&mut host, is(ChangeKind::Created, &at("a")));
    fs::write(at("a"), "2").unwrap();
    until(&mut host, is(ChangeKind::Modified, &at("a")));
    fs::rename(at("a"), at("b")).unwrap();
    let moved = until(&mut host, is(ChangeKind::Moved, &at("a")));
    assert_eq!(moved.last().unwrap().to, Some(bytes(&at("b"))));
    fs::rename(at("b"), home.with_file_name("outside")).unwrap();
    until(&mut host, is(ChangeKind::Deleted, &at("b")));
    fs::rename(home.with_file_name("outside"), at("c")).unwrap();
    until(&mut host, is(ChangeKind::Created, &at("c")));
    fs::remove_file(at("c")).unwrap();
    until(&mut host, is(ChangeKind::Deleted, &at("c")));
    drop(host);
    eventually("the watch has ended", || rig.connections() == 0);
}

#[test]
fn a_tree_is_watched_as_it_grows_and_directories_keep_being_watched_when_they_move() {
    let rig = Rig::new();
    let home = rig.home();
    fs::create_dir(home.join("old")).unwrap();
    let mut host = watch(&rig, &home, true);
    fs::create_dir_all(home.join("x/y/z")).unwrap();
    until(&mut host, is(ChangeKind::Created, &home.join("x/y/z")));
    fs::write(home.join("x/y/z/file"), "").unwrap();
    until(&mut host, is(ChangeKind::Created, &home.join("x/y/z/file")));
    fs::rename(home.join("x"), home.join("old/x")).unwrap();
    until(&mut host, is(ChangeKind::Moved, &home.join("x")));
    fs::write(home.join("old/x/y/z/other"), "").unwrap();
    until(&mut host, is(ChangeKind::Created, &home.join("old/x/y/z/other")));
}

#[test]
fn an_upload_is_one_change_of_its_file_and_nothing_of_its_temporary_names() {
    let rig = Rig::new();
    let home = rig.home();
    let mut host = watch(&rig, &home, false);
    let path = home.join("file");
    rig.host().write(writing(&path), b"1");
    let seen = until(&mut host, is(ChangeKind::Created, &path));
    rig.host().write(writing(&path), b"2");
    let seen_then = until(&mut host, is(ChangeKind::Modified, &path));
    let others = seen
        .iter()
        .chain(&seen_then)
        .filter(|change| change.path != bytes(&path));
    assert_eq!(others.count(), 0, "{seen:?} {seen_then:?}");
}

#[test]
fn one_file_is_watched_across_its_replacement_and_a_directory_until_it_is_gone() {
    let rig = Rig::new();
    let home = rig.home();
    let path = home.join("file");
    fs::write(&path, "").unwrap();
    let mut host = watch(&rig, &path, false);
    fs::write(home.join("beside"), "").unwrap();
    rig.host().write(writing(&path), b"1");
    let seen = until(&mut host, is(ChangeKind::Modified, &path));
    assert!(seen.iter().all(|change| change.path == bytes(&path)), "{seen:?}");
    rig.host().write(writing(&path), b"2");
    until(&mut host, is(ChangeKind::Modified, &path));

    let folder = home.join("folder");
    fs::create_dir(&folder).unwrap();
    let mut host = watch(&rig, &folder, true);
    fs::remove_dir(&folder).unwrap();
    until(&mut host, is(ChangeKind::Deleted, &folder));
    assert_eq!(host.reply(), Reply::Done);
    let path = bytes(&folder);
    assert_eq!(
        host.problem(FileRequest::Watch {
            path,
            recursive: false
        }),
        FileProblem::NotFound
    );
}

#[test]
fn a_host_that_does_not_listen_is_told_that_it_missed_something() {
    let rig = Rig::new();
    let home = rig.home();
    let mut host = watch(&rig, &home, false);
    // Longer than what fits into a socket and the kernel's queue.
    let queue: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let name = "x".repeat(200);
    for number in 0..queue * 2 {
        let path = home.join(format!("{name}{}", number % 7));
        fs::write(&path, "").unwrap();
        fs::remove_file(&path).unwrap();
    }
    until(&mut host, |change| change.kind == ChangeKind::Overflow);
}

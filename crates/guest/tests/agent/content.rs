//! The content of files, there and back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agent_proto::files::{Expected, FileProblem, FileRequest, Range, WriteFile};
use agent_proto::{Language, Reply};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::ask::{bytes, names, reading, writing};
use crate::rig::{Rig, eventually};

/// Bytes that do not repeat with any power of two.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn what_is_written_is_read_again_to_the_byte() {
    let rig = Rig::new();
    let mut host = rig.host();
    for len in [0, 1, 4095, 4096, 4097, 65_536, 65_537, 3 << 20] {
        let path = rig.home().join(format!("deep/er/{len}"));
        let stat = host.write(writing(&path), &pattern(len));
        assert_eq!((stat.size, stat.mode), (len as u64, 0o644));
        let (opened, content) = host.read(&path, Range::All);
        assert_eq!((opened.length, opened.stat), (Some(len as u64), stat));
        assert!(content == pattern(len), "{len}");
    }
    let path = rig.home().join("deep/er/4097");
    for (range, from, to) in [
        (Range::Between(1, 3), 1, 4),
        (Range::From(4000), 4000, 4097),
        (Range::Last(5), 4092, 4097),
        (Range::From(5000), 0, 0),
    ] {
        assert_eq!(host.read(&path, range).1, pattern(4097)[from..to], "{range:?}");
    }
}

#[test]
fn nothing_changes_before_the_commit_and_nothing_is_left_of_what_is_not_committed() {
    let rig = Rig::new();
    let path = rig.home().join("file");
    rig.host().write(writing(&path), b"old");
    let mut host = rig.host();
    host.begin_write(writing(&path));
    host.pieces(&pattern(200_000));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let mut new = rig.host();
    let nested = rig.home().join("new/folder/file");
    new.begin_write(writing(&nested));
    drop((host, new));
    eventually("the agent has let go", || names(&rig.home()) == ["file"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_clone_drops_what_was_on_its_way() {
    let rig = Rig::new();
    let path = rig.home().join("file");
    let mut host = rig.host();
    host.begin_write(writing(&path));
    host.pieces(b"half");
    let mut reader = rig.host();
    fs::write(rig.home().join("large"), vec![1; 8 << 20]).unwrap();
    reader.ask(reading(&rig.home().join("large"), Range::All));
    reader.opened();
    rig.clone_machine();
    eventually("the transfers have ended", || rig.has_let_go());
    assert_eq!(names(&rig.home()), ["large"]);
    rig.host().write(writing(&path), b"whole");
}

#[test]
fn modes_are_kept_or_set_and_links_are_written_through() {
    let rig = Rig::new();
    let mut host = rig.host();
    let path = rig.home().join("tool");
    let with_mode = WriteFile {
        mode: Some(0o750),
        sync: true,
        ..writing(&path)
    };
    assert_eq!(host.write(with_mode, b"1").mode, 0o750);
    assert_eq!(host.write(writing(&path), b"2").mode, 0o750);
    symlink("tool", rig.home().join("link")).unwrap();
    host.write(writing(&rig.home().join("link")), b"3");
    assert_eq!(fs::read(&path).unwrap(), b"3");
    assert!(rig.home().join("link").is_symlink());
    assert_eq!(host.read(&rig.home().join("link"), Range::All).1, b"3");
}

#[test]
fn what_is_expected_is_checked_before_and_after() {
    let rig = Rig::new();
    let mut host = rig.host();
    let path = rig.home().join("file");
    let expecting = |expected| WriteFile {
        expected,
        ..writing(&path)
    };
    let write = |expected| FileRequest::Write(expecting(expected));
    assert_eq!(host.problem(write(Expected::Present)), FileProblem::NotAsExpected);
    let stat = host.write(expecting(Expected::Absent), b"1");
    assert_eq!(host.problem(write(Expected::Absent)), FileProblem::NotAsExpected);
    let version = Expected::Version {
        inode: stat.inode,
        size: stat.size,
        ctime_ns: stat.ctime_ns,
    };
    host.begin_write(expecting(version));
    host.pieces(b"2");
    fs::write(&path, "other").unwrap();
    host.ask(FileRequest::Commit);
    assert_eq!(host.refusal(), FileProblem::NotAsExpected);
    assert_eq!(fs::read(&path).unwrap(), b"other");
}

#[test]
fn hostile_paths_and_special_files_neither_hang_nor_do_harm() {
    let rig = Rig::new();
    let mut host = rig.host();
    let at = |name: &str| rig.home().join(name);
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(at("file"), "x").unwrap();
    symlink("loop", at("loop")).unwrap();
    let long = at(&"x".repeat(300));
    let cases: [(PathBuf, FileProblem, FileProblem); 7] = [
        (at("pipe"), FileProblem::Special, FileProblem::Special),
        ("/dev/zero".into(), FileProblem::Special, FileProblem::Special),
        (rig.home(), FileProblem::IsDirectory, FileProblem::IsDirectory),
        (at("file/x"), FileProblem::NotDirectory, FileProblem::NotDirectory),
        (at("loop"), FileProblem::TooManyLinks, FileProblem::TooManyLinks),
        (long, FileProblem::NameTooLong, FileProblem::NameTooLong),
        (
            "/proc/sys/kernel/osrelease".into(),
            FileProblem::Internal,
            FileProblem::Special,
        ),
    ];
    for (path, read, write) in cases {
        if read != FileProblem::Internal {
            assert_eq!(host.problem(reading(&path, Range::All)), read, "{path:?}");
        }
        assert_eq!(
            host.problem(FileRequest::Write(writing(&path))),
            write,
            "{path:?}"
        );
    }
    assert_eq!(
        host.problem(reading(&at("none"), Range::All)),
        FileProblem::NotFound
    );
    let no_parents = WriteFile {
        parents: false,
        ..writing(&at("a/b"))
    };
    assert_eq!(
        host.problem(FileRequest::Write(no_parents)),
        FileProblem::NotFound
    );
    for wrong in [Path::new("relative"), Path::new("/a\0b")] {
        assert_eq!(host.problem(reading(wrong, Range::All)), FileProblem::BadRequest);
    }
    let endless = PathBuf::from(format!("/{}", "x/".repeat(2048)));
    assert_eq!(
        host.problem(reading(&endless, Range::All)),
        FileProblem::NameTooLong
    );
    assert_eq!(names(&rig.home()).len(), 3);
}

#[test]
fn files_of_the_kernel_are_read_to_their_end_whatever_their_size_says() {
    let rig = Rig::new();
    let mut host = rig.host();
    let (opened, content) = host.read(Path::new("/proc/self/status"), Range::From(10));
    assert_eq!((opened.length, opened.offset), (None, 0));
    assert!(content.starts_with(b"Name:"), "{content:?}");
}

#[test]
fn a_file_that_becomes_shorter_is_never_told_as_whole() {
    let rig = Rig::new();
    let path = rig.home().join("file");
    fs::write(&path, vec![1; 16 << 20]).unwrap();
    let mut host = rig.host();
    host.ask(reading(&path, Range::All));
    host.opened();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(10)
        .unwrap();
    let last = loop {
        match host.reply() {
            Reply::File(agent_proto::files::FileReply::Data(_)) => {}
            other => break other,
        }
    };
    assert!(
        matches!(&last, Reply::File(agent_proto::files::FileReply::Refused(refusal))
            if refusal.problem == FileProblem::Changed),
        "{last:?}"
    );
}

#[test]
fn files_are_moved_while_a_run_is_in_progress() {
    let rig = Rig::new();
    let mut run = rig.host();
    run.begin(
        Language::Python,
        "import time\nprint('on')\ntime.sleep(600)",
        None,
    );
    run.wait_for_output("on\n");
    let path = rig.home().join("file");
    rig.host().write(writing(&path), b"beside it");
    assert_eq!(rig.host().read(&path, Range::All).1, b"beside it");
    assert!(!run.has_reply());
}

/// A file system of one MiB; none where that is not allowed.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &at, "tmpfs", flags, Some(c"size=1m")).ok()?;
        Some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_the_old_file_whole() {
    let rig = Rig::new();
    let Some(disk) = SmallDisk::mount(rig.home().join("disk")) else {
        return;
    };
    let path = disk.0.join("file");
    let mut host = rig.host();
    host.write(writing(&path), b"old");
    let announced = WriteFile {
        length: Some(2 << 20),
        ..writing(&path)
    };
    assert_eq!(host.problem(FileRequest::Write(announced)), FileProblem::DiskFull);
    host.begin_write(writing(&path));
    host.pieces(&pattern(2 << 20));
    assert_eq!(host.refusal(), FileProblem::DiskFull);
    drop(host);
    assert_eq!(
        (fs::read(&path).unwrap(), names(&disk.0)),
        (b"old".to_vec(), vec!["file".to_owned()])
    );
    // What did not fit is gone: the room is there again.
    rig.host()
        .write(writing(&disk.0.join("other")), &pattern(900_000));
}

#[test]
fn directories_are_listed_page_by_page() {
    let rig = Rig::new();
    let mut host = rig.host();
    let folder = rig.home().join("many");
    fs::create_dir(&folder).unwrap();
    for number in 0..2500 {
        fs::write(folder.join(format!("{number:04}")), "x").unwrap();
    }
    symlink("0001", folder.join("link")).unwrap();
    let (all, more) = host.list(&folder, "", 10_000);
    let names: Vec<_> = all
        .iter()
        .map(|listed| String::from_utf8(listed.name.clone()).unwrap())
        .collect();
    assert!(names.is_sorted() && names.len() == 2501 && !more);
    assert_eq!(all[2500].stat.target, Some(b"0001".to_vec()));
    let (page, more) = host.list(&folder, "0999", 2);
    assert_eq!(
        (page[0].name.as_slice(), page.len(), more),
        (&b"1000"[..], 2, true)
    );
    assert!(!host.list(&folder, "2499", 1).1);
    let file = FileRequest::List(agent_proto::files::ListDirectory {
        path: bytes(&folder.join("link")),
        after: Vec::new(),
        limit: 1,
    });
    assert_eq!(host.problem(file), FileProblem::NotDirectory);
    let made = FileRequest::MakeDirectory {
        path: bytes(&folder.join("a/b")),
        mode: Some(0o700),
        parents: true,
    };
    host.ask(made);
    assert!(
        matches!(host.reply(), Reply::File(agent_proto::files::FileReply::Stat(stat)) if stat.mode == 0o700)
    );
    assert_eq!(
        fs::metadata(folder.join("a")).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

//! New content is in its place whole, or not at all.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn names(home: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn write(path: &Path, content: &str) -> Result<Stat, FileError> {
    let mut staged = Staged::begin(path, true)?;
    staged.write(content.as_bytes())?;
    staged.commit(|_| true)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn nobody_sees_it_before_it_is_committed_and_it_leaves_nothing_when_it_is_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("deep/er/file");
    let mut staged = Staged::begin(&path, true).unwrap();
    staged.write(b"half").unwrap();
    assert!(names(&home.path().join("deep/er")).is_empty());
    drop(staged);
    assert!(names(home.path()).is_empty());
    assert_eq!(write(&path, "all").unwrap().st_size, 3);
    assert_eq!(names(&home.path().join("deep/er")), ["file"]);
    assert_eq!(
        (fs::read_to_string(&path).unwrap().as_str(), mode(&path)),
        ("all", 0o644)
    );
}

#[test]
fn what_is_replaced_gives_its_mode_unless_another_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tool");
    write(&path, "1").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    write(&path, "2").unwrap();
    assert_eq!(mode(&path), 0o700);
    let staged = Staged::begin(&path, false)
        .unwrap()
        .with_mode(Some(0o4755))
        .with_sync(true);
    staged.commit(|existing| existing.is_some()).unwrap();
    assert_eq!(
        (mode(&path), names(home.path())),
        (0o4755, vec!["tool".to_owned()])
    );
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced_or_made() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("there")).unwrap();
    symlink("there/target", at("link")).unwrap();
    symlink("link", at("link2")).unwrap();
    write(&at("link2"), "new").unwrap();
    write(&at("link2"), "newer").unwrap();
    assert_eq!(fs::read_to_string(at("there/target")).unwrap(), "newer");
    assert!(fs::symlink_metadata(at("link2")).unwrap().is_symlink());
    symlink("loop", at("loop")).unwrap();
    assert_eq!(write(&at("loop"), "").unwrap_err().errno(), Some(Errno::LOOP));
}

#[test]
fn directories_pipes_and_files_of_the_kernel_are_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(matches!(
        write(&at("pipe"), ""),
        Err(FileError::Special { what: "a pipe", .. })
    ));
    for directory in [home.path().to_owned(), at("new/"), at("new/."), at("..")] {
        let refused = write(&directory, "");
        assert!(
            matches!(refused, Err(FileError::IsDirectory { .. })),
            "{refused:?}"
        );
    }
    assert!(matches!(
        write(Path::new("/proc/sys/kernel/hostname"), ""),
        Err(FileError::Special { .. })
    ));
    write(&at("file"), "").unwrap();
    assert!(matches!(
        write(&at("file/x"), ""),
        Err(FileError::NotDirectory { .. })
    ));
    assert_eq!(names(home.path()), ["file", "pipe"]);
}

#[test]
fn what_came_in_between_is_noticed_at_the_end() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("file");
    let staged = Staged::begin(&path, false).unwrap();
    fs::write(&path, "other").unwrap();
    let refused = staged.commit(|existing| existing.is_none());
    assert!(matches!(refused, Err(FileError::NotAsExpected { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "other");
    assert_eq!(names(home.path()), ["file"]);
}

#[test]
fn too_much_for_the_disk_is_known_before_it_is_written() {
    let home = tempfile::tempdir().unwrap();
    let staged = Staged::begin(&home.path().join("file"), false).unwrap();
    staged.need_room(1).unwrap();
    assert_eq!(
        staged.need_room(u64::MAX - 1).unwrap_err().errno(),
        Some(Errno::NOSPC)
    );
}

//! The cache's promises, with builds that write one file.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::progress::Silent;

#[derive(Debug)]
struct Failed;

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        panic!("{error:?}");
    }
}

fn request<'a>(inputs: &'a u32, refresh: bool) -> Request<'a, u32> {
    Request {
        kind: "thing",
        name: "default",
        inputs,
        refresh,
        progress: &Silent,
    }
}

fn build(store: &ImageStore, inputs: u32, refresh: bool, text: &str, builds: &AtomicUsize) -> Artifact {
    let built = store.get_or_build::<_, Failed>(&request(&inputs, refresh), |workshop| {
        builds.fetch_add(1, Ordering::SeqCst);
        fs::write(workshop.scratch.join("waste"), "x").unwrap();
        fs::write(workshop.out.join("file"), text).unwrap();
        Ok(PackageVersions::from([("bash".to_owned(), "5.2".to_owned())]))
    });
    built.unwrap()
}

#[test]
fn the_same_inputs_are_built_once_and_others_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path()).unwrap();
    let builds = AtomicUsize::new(0);
    let first = build(&store, 1, false, "one", &builds);
    let again = build(
        &ImageStore::open(directory.path()).unwrap(),
        1,
        false,
        "never",
        &builds,
    );
    let other = build(&store, 2, false, "two", &builds);
    assert_eq!(builds.load(Ordering::SeqCst), 2);
    assert_eq!(first.directory, again.directory);
    assert_eq!(fs::read_to_string(again.path("file")).unwrap(), "one");
    assert_ne!(first.identity(), other.identity());
    assert_eq!(again.manifest.packages["bash"], "5.2");
    assert!(again.manifest.files["file"].sha256.is_some());
    assert!(
        !directory.path().join("tmp/thing").exists(),
        "the workshop is cleared"
    );
}

#[test]
fn a_refresh_replaces_the_artifact_under_the_same_key() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path()).unwrap();
    let builds = AtomicUsize::new(0);
    let old = build(&store, 1, false, "old", &builds);
    let new = build(&store, 1, true, "new", &builds);
    assert_eq!(old.directory, new.directory);
    assert_eq!(fs::read_to_string(new.path("file")).unwrap(), "new");
    assert_ne!(old.identity(), new.identity());
    assert_eq!(
        build(&store, 1, true, "new", &builds).identity(),
        new.identity(),
        "the content decides"
    );
}

#[test]
fn a_build_that_fails_or_dies_leaves_no_artifact() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path()).unwrap();
    let failed = store.get_or_build::<_, Failed>(&request(&1, false), |workshop| {
        fs::write(workshop.out.join("half"), "x").unwrap();
        Err(Failed)
    });
    assert!(failed.is_err());
    // The same state a killed build leaves: files in the workshop, and the lock let go by the kernel.
    let left = directory
        .path()
        .join(format!("tmp/thing/{}/out/half", std::process::id()));
    assert!(left.exists());
    let artifact = build(&store, 1, false, "whole", &AtomicUsize::new(0));
    assert_eq!(fs::read_to_string(artifact.path("file")).unwrap(), "whole");
    assert!(
        !artifact.path("half").exists(),
        "leftovers are cleared before the next build"
    );
}

#[test]
fn of_many_builders_at_once_one_builds() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path()).unwrap();
    let builds = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| build(&store, 7, false, "x", &builds));
        }
    });
    assert_eq!(builds.load(Ordering::SeqCst), 1);
}

#[test]
fn artifacts_replaced_long_ago_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path()).unwrap();
    let builds = AtomicUsize::new(0);
    let artifacts: Vec<_> = (0..6)
        .map(|inputs| build(&store, inputs, false, "x", &builds))
        .collect();
    let left = fs::read_dir(directory.path().join("thing")).unwrap().count();
    assert_eq!(left, KEPT_PER_NAME);
    assert!(artifacts[5].path("file").exists(), "the newest is kept");
}

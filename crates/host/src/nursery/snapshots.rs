//! Snapshots on disk: one directory for each, named for its template and its key.
//!
//! ```text
//! <template>-<key>/vm/…           what the VM process wrote
//! <template>-<key>/working-set    pages a fresh clone touches until its first answer; may be missing
//! <template>-<key>.new/…          one that is being made
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::storage::make_private;

/// The snapshots of one template.
#[derive(Clone, Debug)]
pub(super) struct SnapshotStore {
    dir: PathBuf,
    template: String,
}

/// One snapshot, or one that is being made.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) dir: PathBuf,
}

impl SnapshotStore {
    pub(super) fn new(dir: &Path, template: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            template: template.to_owned(),
        }
    }

    /// The snapshot with this key, if there is one. Those with other keys are of no use any more and are removed,
    /// like what is left of a build that was cut short.
    pub(super) fn find(&self, key: &str) -> io::Result<Option<Snapshot>> {
        let wanted = self.name(key);
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name != wanted && self.is_ours(name) {
                tracing::info!(snapshot = name, "removing a snapshot that is out of date");
                fs::remove_dir_all(entry.path())?;
            }
        }
        let dir = self.dir.join(wanted);
        Ok(dir.is_dir().then_some(Snapshot { dir }))
    }

    /// A place for a new one.
    pub(super) fn begin(&self, key: &str) -> io::Result<Snapshot> {
        let dir = self.dir.join(format!("{}.new", self.name(key)));
        forget(&dir)?;
        let snapshot = Snapshot { dir };
        make_private(&snapshot.vm())?;
        Ok(snapshot)
    }

    /// Makes a new one count, whole or not at all.
    pub(super) fn finish(&self, key: &str, new: &Snapshot) -> io::Result<Snapshot> {
        for entry in fs::read_dir(new.vm())? {
            File::open(entry?.path())?.sync_all()?;
        }
        let dir = self.dir.join(self.name(key));
        forget(&dir)?;
        fs::rename(&new.dir, &dir)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(Snapshot { dir })
    }

    pub(super) fn remove(snapshot: &Snapshot) -> io::Result<()> {
        forget(&snapshot.dir)
    }

    fn name(&self, key: &str) -> String {
        format!("{}-{key}", self.template)
    }

    /// Another template's name may begin with this one's.
    fn is_ours(&self, name: &str) -> bool {
        let rest = name
            .strip_prefix(&self.template)
            .and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| {
            let key = rest.strip_suffix(".new").unwrap_or(rest);
            key.len() == super::key::KEY_DIGITS && key.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }
}

impl Snapshot {
    pub(super) fn vm(&self) -> PathBuf {
        self.dir.join("vm")
    }

    pub(super) fn working_set(&self) -> PathBuf {
        self.dir.join("working-set")
    }

    /// The same, if it was recorded.
    pub(super) fn recorded_working_set(&self) -> Option<PathBuf> {
        Some(self.working_set()).filter(|file| file.exists())
    }
}

fn forget(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_when_it_is_finished_and_replaces_those_with_other_keys() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::new(dir.path(), "default");
        let other = SnapshotStore::new(dir.path(), "default-2");
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        for (store, key) in [(&store, &a), (&other, &a)] {
            let new = store.begin(key).unwrap();
            fs::write(new.vm().join("state"), "").unwrap();
            assert!(store.find(key).unwrap().is_none());
            let new = store.begin(key).unwrap();
            store.finish(key, &new).unwrap();
        }
        assert!(store.find(&a).unwrap().unwrap().recorded_working_set().is_none());
        assert!(store.find(&b).unwrap().is_none());
        assert!(store.find(&a).unwrap().is_none());
        assert!(other.find(&a).unwrap().is_some());
    }
}

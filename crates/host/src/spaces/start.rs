//! At the start: what there is, and what a daemon before this one has left unfinished.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};

use pod_types::{ErrorChain, SpaceId};

use super::draft::META;
use super::{Entry, GONE, Meta, NEW, RESUMED, Spaces, TEMPLATES, rename};
use crate::storage::make_private;

/// What a name in the directory stands for.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Space(SpaceId),
    /// Its VM ended with the daemon that resumed it.
    Resumed(SpaceId),
    Unfinished,
    Foreign,
}

impl Spaces {
    /// Opens the directory, which is made if it is not there.
    pub(crate) fn open(dir: &Path) -> io::Result<Arc<Self>> {
        make_private(&dir.join(TEMPLATES))?;
        let mut entries = BTreeMap::new();
        for found in fs::read_dir(dir)? {
            let found = found?;
            let path = found.path();
            let id = match Found::of(&found.file_name().to_string_lossy()) {
                Found::Space(id) => id,
                Found::Resumed(id) => {
                    tracing::warn!(space = %id, "a space whose sandbox ended with the daemon is there again");
                    rename(&path, &dir.join(id.to_string()))?;
                    id
                }
                Found::Unfinished => {
                    tracing::info!(dir = %path.display(), "removing an unfinished space");
                    fs::remove_dir_all(&path)?;
                    continue;
                }
                Found::Foreign => continue,
            };
            match Meta::read(&dir.join(id.to_string()).join(META)) {
                Ok(meta) if meta.id == id => {
                    let meta = Arc::new(meta);
                    entries.insert(id, Entry { meta, busy: false });
                }
                Ok(_) => tracing::error!(space = %id, "a space says that it is another; it is left alone"),
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::error!(space = %id, error, "what a space is cannot be told; it is left alone");
                }
            }
        }
        let spaces = Arc::new(Self {
            dir: dir.to_owned(),
            entries: Mutex::new(entries),
        });
        spaces.forget_unused_templates()?;
        Ok(spaces)
    }
}

impl Found {
    fn of(name: &str) -> Self {
        let named = |name: &str| SpaceId::from_str(name).ok();
        let ends = |end| name.strip_suffix(end).and_then(named);
        match (named(name), ends(RESUMED)) {
            (Some(id), _) => Self::Space(id),
            (None, Some(id)) => Self::Resumed(id),
            (None, None) if ends(NEW).or_else(|| ends(GONE)).is_some() => Self::Unfinished,
            (None, None) => Self::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_far_a_space_has_come() {
        let id = SpaceId::from([7; 16]);
        assert_eq!(Found::of(&id.to_string()), Found::Space(id));
        assert_eq!(Found::of(&format!("{id}.resumed")), Found::Resumed(id));
        assert_eq!(Found::of(&format!("{id}.new")), Found::Unfinished);
        assert_eq!(Found::of(&format!("{id}.gone")), Found::Unfinished);
        assert_eq!(Found::of("templates"), Found::Foreign);
        assert_eq!(Found::of("notes.new"), Found::Foreign);
    }
}

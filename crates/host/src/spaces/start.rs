//! At the start: what there is, and what a daemon before this one has left unfinished.

use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pod_types::{ErrorChain, SandboxId, SpaceId};

use super::draft::META;
use super::{Entry, GONE, Meta, NEW, RESUMED, Spaces, TEMPLATES, rename, with_end};
use crate::storage::make_private;

/// What a name in the directory stands for.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Space(SpaceId),
    /// It has become this sandbox, or was about to.
    Resumed(SpaceId, SandboxId),
    Unfinished,
    Foreign,
}

impl Spaces {
    /// Opens the directory, which is made if it is not there. To be followed by [`Self::settle`].
    pub(crate) fn open(dir: &Path) -> io::Result<Arc<Self>> {
        make_private(&dir.join(TEMPLATES))?;
        let spaces = Self {
            dir: dir.to_owned(),
            entries: Mutex::default(),
            unsettled: Mutex::default(),
            transfers: Mutex::default(),
            checked: Mutex::default(),
        };
        let mut unsettled = Vec::new();
        for found in fs::read_dir(dir)? {
            let found = found?;
            match Found::of(&found.file_name().to_string_lossy()) {
                Found::Space(id) => spaces.index(id),
                Found::Resumed(id, sandbox) => unsettled.push((id, sandbox)),
                Found::Unfinished => {
                    tracing::info!(dir = %found.path().display(), "removing an unfinished space");
                    fs::remove_dir_all(found.path())?;
                }
                Found::Foreign => {}
            }
        }
        spaces.unsettled().extend(unsettled);
        Ok(Arc::new(spaces))
    }

    /// Whether a sandbox that is still running has been frozen, and was about to end.
    pub(crate) fn is_frozen(&self, sandbox: SandboxId) -> bool {
        let entries = self.entries();
        entries.values().any(|entry| entry.meta.sandbox_id == sandbox)
    }

    /// What was being resumed is gone if the sandbox it became is there, and else is a space again.
    pub(crate) fn settle(&self, is_there: impl Fn(SandboxId) -> bool) -> io::Result<()> {
        let unsettled = std::mem::take(&mut *self.unsettled());
        for (id, sandbox) in unsettled {
            let resumed = with_end(&self.path(id), &format!("{RESUMED}{sandbox}"));
            if is_there(sandbox) {
                fs::remove_dir_all(resumed)?;
            } else {
                tracing::warn!(space = %id, sandbox_id = %sandbox, "a space whose sandbox is gone with its daemon is there again");
                rename(&resumed, &self.path(id))?;
                self.index(id);
            }
        }
        self.forget_unused_templates()
    }

    fn index(&self, id: SpaceId) {
        match Meta::read(&self.path(id).join(META)) {
            Ok(meta) if meta.id == id => {
                let meta = Arc::new(meta);
                self.entries().insert(id, Entry { meta, busy: false });
            }
            Ok(_) => tracing::error!(space = %id, "a space says that it is another; it is left alone"),
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::error!(space = %id, error, "what a space is cannot be told; it is left alone");
            }
        }
    }

    fn unsettled(&self) -> MutexGuard<'_, Vec<(SpaceId, SandboxId)>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn of(name: &str) -> Self {
        let named = |name: &str| SpaceId::from_str(name).ok();
        let ends = |end| name.strip_suffix(end).and_then(named);
        let resumed = name.split_once(RESUMED).and_then(|(space, sandbox)| {
            let sandbox = SandboxId::from_str(sandbox).ok()?;
            named(space).map(|space| (space, sandbox))
        });
        match (named(name), resumed) {
            (Some(id), _) => Self::Space(id),
            (None, Some((id, sandbox))) => Self::Resumed(id, sandbox),
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
        let sandbox = SandboxId::from([8; 16]);
        assert_eq!(
            Found::of(&format!("{id}.resumed-{sandbox}")),
            Found::Resumed(id, sandbox)
        );
        assert_eq!(Found::of(&format!("{id}.new")), Found::Unfinished);
        assert_eq!(Found::of(&format!("{id}.gone")), Found::Unfinished);
        assert_eq!(Found::of("templates"), Found::Foreign);
        assert_eq!(Found::of("notes.new"), Found::Foreign);
    }
}

//! Which files may still be opened: those of the host that are read again when they change, and their neighbours.
//!
//! They are replaced by new ones under the same name (`/etc/resolv.conf` by whoever manages the network), so holding them
//! open is not enough, and neither is a rule about the file that is there now: it is one about its directory. Landlock
//! also keeps this process from starting programs, from writing anything and from sockets with abstract names. A kernel
//! without it leaves that to the list of system calls, which cannot tell one path from another.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use thiserror::Error;

/// The newest version whose rights are all known here; a kernel that knows fewer enforces those.
const KNOWN: ABI = ABI::V6;

#[derive(Debug, Error)]
pub(crate) enum FilesError {
    #[error("cannot look at {}", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        error: PathFdError,
    },
    #[error("the kernel refuses the rules")]
    Rules(#[source] RulesetError),
}

/// Keeps this thread, and those that it starts, to reading what lies in the directories of these files. Says whether the
/// kernel does it.
pub(super) fn keep_to(files: &[&Path]) -> Result<bool, FilesError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .map_err(FilesError::Rules)?;
    for directory in files.iter().filter_map(|file| directory_of(file)) {
        let opened = PathFd::new(&directory).map_err(|error| FilesError::Open {
            path: directory,
            error,
        })?;
        rules = rules
            .add_rule(PathBeneath::new(opened, AccessFs::ReadFile))
            .map_err(FilesError::Rules)?;
    }
    let status = rules.restrict_self().map_err(FilesError::Rules)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Where a file really lies, or will: `/etc/resolv.conf` often leads to another directory. None if that is not there.
fn directory_of(file: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let directory = real.parent()?.to_owned();
    directory.is_dir().then_some(directory)
}

//! Moving whole directories into place and away.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::geteuid;

use super::StoreError;
use crate::command::Tool;

/// Moves a finished directory to its place; what was there comes to be where the new one was.
pub(super) fn install(from: &Path, to: &Path) -> Result<(), StoreError> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(StoreError::file("make", parent))?;
    if to.exists() {
        renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_EXCHANGE)
            .map_err(io::Error::from)
            .map_err(StoreError::file("replace", to))?;
    } else {
        fs::rename(from, to).map_err(StoreError::file("move into place", to))?;
    }
    sync(parent)
}

/// Puts a tree's files and directories on disk.
pub(super) fn sync_tree(directory: &Path) -> Result<(), StoreError> {
    let list = || StoreError::file("list", directory);
    for entry in fs::read_dir(directory).map_err(list())? {
        let entry = entry.map_err(list())?;
        let kind = entry.file_type().map_err(list())?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            sync(&entry.path())?;
        }
    }
    sync(directory)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(StoreError::file("sync", path))
}

/// Removes a tree if it is there.
///
/// An unpacked root file system of an ordinary user belongs to that user's subordinate ids: only inside a user
/// namespace that has them can it be removed.
pub(super) fn remove_tree(path: &Path, log: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !geteuid().is_root() => {
            Tool::new("unshare", log)
                .args([
                    "--map-root-user",
                    "--map-auto",
                    "rm",
                    "-rf",
                    "--one-file-system",
                    "--",
                ])
                .arg(path)
                .run(|_| {})
                .map_err(|source| StoreError::Remove {
                    path: path.to_owned(),
                    source,
                })
        }
        Err(error) => Err(StoreError::file("remove", path)(error)),
    }
}

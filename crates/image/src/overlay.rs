//! Files put into a root file system while it is made, carried there as a tar archive.
//!
//! An archive, because an unprivileged mmdebstrap works as another user, to whom our directories may be closed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::command::Tool;
use crate::error::ImageError;
use crate::template::File;

/// Modification time of all files, in seconds since 1970: the first day of 2025.
pub(crate) const FIXED_TIME: u32 = 1_735_689_600;

/// Writes `files` into `directory` and packs them, without the directories above them, so that those keep their modes.
pub(crate) fn pack(files: &[File], directory: &Path, log: &Path) -> Result<PathBuf, ImageError> {
    let tree = directory.join("overlay");
    let mut names = String::new();
    for file in files {
        let relative = file.path.trim_start_matches('/');
        let path = tree.join(relative);
        let parent = path.parent().unwrap_or(&tree);
        fs::create_dir_all(parent).map_err(ImageError::file("make", parent))?;
        fs::write(&path, &file.content).map_err(ImageError::file("write", &path))?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(ImageError::file("set the mode of", &path))?;
        names.push_str(relative);
        names.push('\0');
    }
    let list = directory.join("overlay.list");
    fs::write(&list, names).map_err(ImageError::file("write", &list))?;
    let tar = directory.join("overlay.tar");
    Tool::new("tar", log)
        .args([
            "--create",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--no-recursion",
            "--null",
        ])
        .arg(format!("--mtime=@{FIXED_TIME}"))
        .args([
            "--file".into(),
            tar.clone(),
            "--directory".into(),
            tree,
            "--files-from".into(),
            list,
        ])
        .run(|_| {})
        .map_err(ImageError::FileSystem)?;
    Ok(tar)
}

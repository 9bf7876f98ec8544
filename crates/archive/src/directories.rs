//! Makes the directories on the way to a file, and takes back those it made.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, mkdirat, statat, unlinkat};
use rustix::io::Errno;

use crate::error::{FileError, shown};

/// What new directories allow.
const MODE: u32 = 0o755;

/// Makes `path` a directory, with all above it. Returns those that were not there, outermost first.
///
/// # Errors
/// When something on the way is no directory, or cannot be made; what was made is taken back.
pub fn make_directories(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut made = Vec::new();
    let mut missing = vec![path];
    while let Some(&directory) = missing.last() {
        let error = match mkdirat(CWD, directory, Mode::from_raw_mode(MODE)) {
            Ok(()) => {
                made.push(directory.to_owned());
                missing.pop();
                continue;
            }
            Err(error) => error,
        };
        let above = directory.parent().filter(|above| !above.as_os_str().is_empty());
        match (error, above) {
            (Errno::EXIST, _) if is_directory(directory) => {
                missing.pop();
            }
            // Above it something is missing; more than once only when somebody removes what we make.
            (Errno::NOENT, Some(above)) if made.is_empty() => missing.push(above),
            (error, _) => {
                remove_directories(&made);
                let bytes = directory.as_os_str().as_bytes();
                return Err(match error {
                    Errno::EXIST | Errno::NOTDIR => FileError::NotDirectory { path: shown(bytes) },
                    error => FileError::system("make the directory", bytes, error),
                });
            }
        }
    }
    Ok(made)
}

/// Removes directories that were made for nothing, as far as they are empty.
pub fn remove_directories(made: &[PathBuf]) {
    for directory in made.iter().rev() {
        if unlinkat(CWD, directory, AtFlags::REMOVEDIR).is_err() {
            return;
        }
    }
}

fn is_directory(path: &Path) -> bool {
    statat(CWD, path, AtFlags::empty())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directories_are_made_and_taken_back_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b/c");
        std::fs::create_dir(home.path().join("a")).unwrap();
        let made = make_directories(&deep).unwrap();
        assert_eq!(made, [home.path().join("a/b"), deep.clone()]);
        assert!(make_directories(&deep).unwrap().is_empty());
        std::fs::write(home.path().join("a/file"), "").unwrap();
        remove_directories(&made);
        assert!(home.path().join("a/file").exists() && !home.path().join("a/b").exists());
        let through = make_directories(&home.path().join("a/file/d")).unwrap_err();
        assert!(matches!(through, FileError::NotDirectory { .. }), "{through}");
    }
}

//! What can go wrong with files.

use std::io;

use rustix::fs::FileType;
use rustix::io::Errno;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot {doing} {path}")]
    System {
        doing: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path} is a directory")]
    IsDirectory { path: String },
    #[error("{path} is not a directory")]
    NotDirectory { path: String },
    #[error("{path} is {what}, not a file with content")]
    Special { path: String, what: &'static str },
    #[error("{path} is not what it was expected to be")]
    NotAsExpected { path: String },
    #[error("{path} became shorter while it was read")]
    Changed { path: String },
    #[error("the directories down to {path} have more files than fit into memory")]
    TooLarge { path: String },
    /// An entry that is not unpacked; those before it have been.
    #[error("entry {number} of the archive, {path}, {why}")]
    Entry {
        number: u64,
        path: String,
        why: &'static str,
    },
    #[error("this is not a whole tar archive")]
    Archive(#[source] io::Error),
    /// Whoever takes or gives the archive.
    #[error("the transfer broke off")]
    Transfer(#[source] io::Error),
}

impl FileError {
    pub fn system(doing: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::System {
            doing,
            path: shown(path),
            source: source.into(),
        }
    }

    /// What the operating system said, where it did.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { source, .. } => Errno::from_io_error(source),
            _ => None,
        }
    }
}

/// A path for people: what is not text, or would move a terminal's cursor, is escaped.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// In words, what is no regular file and no directory.
pub(crate) fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Symlink => "a symbolic link",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_play_with_the_terminal_it_is_shown_on() {
        assert_eq!(shown(b"a b/\xc3\xa9"), "a b/\u{e9}");
        assert_eq!(shown(b"\x1b[2J\n\xff\xc2\x9b"), "\\u{1b}[2J\\n\u{fffd}\\u{9b}");
    }
}

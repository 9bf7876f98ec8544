//! A log file from its end on, and as it grows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Most that is read at once, and most of a file that is searched for its last lines.
const BYTES_MAX: u64 = 4 << 20;

/// A place in a file that others write to. The file may be cut or replaced at any time, and reading goes on at the
/// start of what is new.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    read_up_to: u64,
}

impl Follower {
    /// Starts so that the last `lines` lines come first.
    pub(crate) fn at_last_lines(path: &Path, lines: usize) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let start = len.saturating_sub(BYTES_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        let from = start + last_lines(&bytes, lines) as u64;
        Ok(Self {
            path: path.to_owned(),
            read_up_to: from,
        })
    }

    /// What has come since the last call; nothing while there is no file.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.read_up_to = 0;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.read_up_to {
            self.read_up_to = 0;
        }
        file.seek(SeekFrom::Start(self.read_up_to))?;
        let mut bytes = Vec::new();
        self.read_up_to += file.take(BYTES_MAX).read_to_end(&mut bytes)? as u64;
        Ok(bytes)
    }
}

/// Where the last `lines` lines begin.
pub(crate) fn last_lines(bytes: &[u8], lines: usize) -> usize {
    // The newline at the very end closes the last line and starts none.
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut starts = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1);
    match lines {
        0 => bytes.len(),
        lines => starts.nth(lines - 1).unwrap_or(0),
    }
}

/// What of a bounded text is new, when an older state of it has been shown.
pub(crate) fn news<'a>(shown: &str, now: &'a str) -> &'a str {
    /// Enough of the end of what was shown to find it again for sure.
    const ANCHOR_BYTES: usize = 512;

    if let Some(rest) = now.strip_prefix(shown) {
        return rest;
    }
    let anchor = (shown.len().saturating_sub(ANCHOR_BYTES)..shown.len()).find_map(|start| shown.get(start..));
    match anchor.and_then(|anchor| Some((anchor, now.rfind(anchor)?))) {
        Some((anchor, at)) => &now[at + anchor.len()..],
        None => now,
    }
}

/// Text that a machine wrote, fit for somebody's terminal: escape sequences and control characters other than line ends
/// and tabs are left out, so that it cannot steer it.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut characters = text.chars().peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        match character {
            // A control sequence, such as a colour, ends with its first byte from `@` on (ECMA-48, 5.4).
            '\x1b' if characters.peek() == Some(&'[') => {
                characters.next();
                while characters.next_if(|part| matches!(part, ' '..='?')).is_some() {}
                characters.next_if(|last| matches!(last, '@'..='~'));
            }
            '\n' | '\t' => out.push(character),
            _ if character.is_control() => {}
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_last_lines_are_whole() {
        let text = b"one\ntwo\nthree\n";
        assert_eq!(&text[last_lines(text, 1)..], b"three\n");
        assert_eq!(&text[last_lines(text, 2)..], b"two\nthree\n");
        assert_eq!(last_lines(text, 9), 0);
        assert_eq!(last_lines(text, 0), text.len());
        assert_eq!(last_lines(b"", 3), 0);
        assert_eq!(last_lines(b"no end\nhere", 1), 7);
    }

    #[test]
    fn a_file_is_followed_over_being_cut_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "a\nb\n").unwrap();
        let mut follower = Follower::at_last_lines(&path, 1).unwrap();
        assert_eq!(follower.read().unwrap(), b"b\n");
        assert_eq!(follower.read().unwrap(), b"");
        fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(follower.read().unwrap(), b"c\n");
        fs::write(&path, "new\n").unwrap();
        assert_eq!(follower.read().unwrap(), b"new\n");
        fs::remove_file(&path).unwrap();
        assert_eq!(follower.read().unwrap(), b"");
    }

    #[test]
    fn only_what_is_new_of_a_bounded_text_is_shown() {
        assert_eq!(news("", "ab"), "ab");
        assert_eq!(news("ab", "abc"), "c");
        assert_eq!(news("0123456789", "56789new"), "56789new");
        let shown = "x".repeat(100) + &"y".repeat(600);
        let now = "y".repeat(600) + "news";
        assert_eq!(news(&shown, &now), "news");
        assert_eq!(news("é".repeat(400).as_str(), "other"), "other");
    }

    #[test]
    fn a_machine_cannot_steer_the_terminal() {
        assert_eq!(
            printable(b"a\x1b[1;31mb\r\n\tc\x07\xff\x1b[2Jd\x1be\x1b[1"),
            "ab\n\tc\u{fffd}de"
        );
    }
}

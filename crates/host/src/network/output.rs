//! What the network process has to say, put into this daemon's log.
//!
//! It writes to a file, since it may outlive a daemon that would read a pipe. The file is read from time to time, and cut
//! when it has grown; what comes faster than that is left out and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use crate::events;

/// Read at once, at most.
const CHUNK_BYTES: u64 = 32 * 1024;
/// A file longer than this is emptied.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const LINE_CHARS_MAX: usize = 500;

#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    at: u64,
    /// A line that has not ended yet.
    rest: Vec<u8>,
}

impl Output {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            at: 0,
            rest: Vec::new(),
        }
    }

    /// Hands on what has been said since the last time.
    pub(super) fn forward(&mut self) {
        match self.lines() {
            Ok((lines, left_out)) => {
                for line in lines {
                    tracing::info!(event = events::NETD_SAYS, "netd: {line}");
                }
                if left_out > 0 {
                    tracing::warn!(
                        event = events::LINES_LEFT_OUT,
                        bytes = left_out,
                        "netd: output was left out"
                    );
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, "cannot read what the network process says"),
        }
    }

    /// Whole lines, and how many bytes were left out before them.
    fn lines(&mut self) -> io::Result<(Vec<String>, u64)> {
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let len = file.metadata()?.len();
        // It was cut, or is another one.
        if len < self.at {
            self.at = 0;
        }
        let left_out = (len - self.at).saturating_sub(CHUNK_BYTES);
        if left_out > 0 {
            self.rest.clear();
        }
        self.at += left_out;
        let read = self.read(&mut file)?;
        self.at += read.len() as u64;
        self.rest.extend(read);
        if len > FILE_BYTES_MAX {
            file.set_len(0)?;
            self.at = 0;
        }
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            lines.push(text.trim_end().chars().take(LINE_CHARS_MAX).collect());
        }
        if self.rest.len() as u64 > CHUNK_BYTES {
            self.rest.clear();
        }
        Ok((lines, left_out))
    }

    fn read(&self, file: &mut File) -> io::Result<Vec<u8>> {
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;

    #[test]
    fn lines_are_handed_on_once_and_when_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netd.log");
        let mut output = Output::new(path.clone());
        assert!(output.lines().is_err());
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(output.lines().unwrap().0, ["one"]);
        file.write_all(b"o\nthree\n").unwrap();
        assert_eq!(output.lines().unwrap().0, ["two", "three"]);
        assert!(output.lines().unwrap().0.is_empty());
    }

    #[test]
    fn a_flood_is_left_out_and_the_file_stays_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netd.log");
        let mut output = Output::new(path.clone());
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        file.write_all(&b"noise\n".repeat(100_000)).unwrap();
        let (_, left_out) = output.lines().unwrap();
        assert_eq!(left_out, 600_000 - CHUNK_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        file.write_all(b"after\n").unwrap();
        assert_eq!(output.lines().unwrap().0.last().unwrap(), "after");
    }
}

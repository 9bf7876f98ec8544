//! The console file: rotated at each start, cut when it grows too long, and its tail for whoever asks why.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::run_dir::RunDir;

/// Size at which a console is cut, in bytes. Disk use is at most about twice this.
const CONSOLE_BYTES_MAX: u64 = 8 << 20;
/// Most bytes of a file that are looked at for its last lines.
const TAIL_BYTES_MAX: u64 = 256 << 10;

/// Makes room for the console of a new start; the one before stays readable.
pub(crate) fn rotate(run_dir: &RunDir) -> io::Result<()> {
    match fs::rename(run_dir.console(), run_dir.console_before()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Cuts a console that has grown too long. Its writer appends (`O_APPEND`), so it goes on at the new end.
pub(crate) fn bound(run_dir: &RunDir) -> io::Result<()> {
    bound_at(run_dir, CONSOLE_BYTES_MAX)
}

fn bound_at(run_dir: &RunDir, bytes_max: u64) -> io::Result<()> {
    let path = run_dir.console();
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > bytes_max => {
            fs::copy(&path, run_dir.console_before())?;
            OpenOptions::new().write(true).open(&path)?.set_len(0)
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The last lines of a text file, without control characters; nothing when there is no file.
pub(crate) fn tail(path: &Path, lines: usize) -> Vec<String> {
    let Ok(bytes) = last_bytes(path) else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut last: Vec<String> = text.lines().rev().take(lines).map(printable).collect();
    last.reverse();
    last
}

fn last_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a guest wrote must not steer somebody's terminal.
fn printable(line: &str) -> String {
    line.chars()
        .filter(|character| !character.is_control() || *character == '\t')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_long_console_is_cut_and_its_writer_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(directory.path()).unwrap();
        bound_at(&run_dir, 10).unwrap();
        let mut writer = OpenOptions::new()
            .create(true)
            .append(true)
            .open(run_dir.console())
            .unwrap();
        writer.write_all(b"0123456789\nlast before\n").unwrap();
        bound_at(&run_dir, 10).unwrap();
        writer.write_all(b"first after\n").unwrap();
        assert_eq!(tail(&run_dir.console(), 9), ["first after"]);
        assert_eq!(tail(&run_dir.console_before(), 1), ["last before"]);
        rotate(&run_dir).unwrap();
        assert!(tail(&run_dir.console(), 9).is_empty());
        assert_eq!(tail(&run_dir.console_before(), 9), ["first after"]);
        rotate(&run_dir).unwrap();
    }

    #[test]
    fn escape_sequences_do_not_get_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, b"a\x1b[2Jb\r\n\xff\n").unwrap();
        assert_eq!(tail(&path, 5), ["a[2Jb", "\u{fffd}"]);
    }
}

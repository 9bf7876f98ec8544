//! What the guest prints on its serial port: a bounded log file, and the last part in memory.
//!
//! A guest prints as fast as it can exit. So nothing here grows with what it prints: lines are gathered up to
//! [`PENDING_BYTES_MAX`], the file is cut to its newer half when it would pass its limit, and the tail in memory is a
//! ring. All of this runs on the vCPU's thread, so a guest that floods slows itself.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};

use vmm_proto::ConsoleConfig;

/// Bytes kept in memory for the end report (the limit `EndReport::console_tail` states).
const TAIL_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an unfinished line that are written out without waiting for its end.
const PENDING_BYTES_MAX: usize = 1024;
/// Smallest log limit taken seriously, in bytes.
const LOG_BYTES_MIN: u64 = 4096;

pub(crate) type SharedConsole = Arc<Mutex<Console>>;

#[derive(Debug)]
pub(crate) struct Console {
    log: File,
    log_bytes: u64,
    log_bytes_max: u64,
    /// Where everything is printed as well, at once: standard output of a VM in the foreground.
    mirror: Option<io::Stdout>,
    pending: Vec<u8>,
    tail: VecDeque<u8>,
}

/// The serial port's side.
#[derive(Debug)]
pub(crate) struct ConsoleWriter {
    console: SharedConsole,
}

impl Console {
    /// Starts an empty log.
    pub(crate) fn create(config: &ConsoleConfig, mirror: Option<io::Stdout>) -> io::Result<Self> {
        let log = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&config.log)?;
        let mut console = Self::new(log, config.log_bytes_max);
        console.mirror = mirror;
        Ok(console)
    }

    /// Logs to an empty file.
    pub(crate) fn new(log: File, log_bytes_max: u64) -> Self {
        Self {
            log,
            log_bytes: 0,
            log_bytes_max: log_bytes_max.max(LOG_BYTES_MIN),
            mirror: None,
            pending: Vec::with_capacity(PENDING_BYTES_MAX),
            tail: VecDeque::new(),
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if let Some(mirror) = &mut self.mirror {
            // Nobody looks any more; the log still does.
            let _ = mirror.write_all(bytes).and_then(|()| mirror.flush());
        }
        for byte in bytes {
            if self.tail.len() == TAIL_BYTES_MAX {
                self.tail.pop_front();
            }
            self.tail.push_back(*byte);
            self.pending.push(*byte);
            if *byte == b'\n' || self.pending.len() >= PENDING_BYTES_MAX {
                self.flush();
            }
        }
    }

    /// Writes out an unfinished line.
    pub(crate) fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        // A full disk costs log lines, not the VM.
        if let Err(error) = self.write_log(&pending) {
            static LOG: crate::log::GuestLog = crate::log::GuestLog::new();
            LOG.line(format_args!("cannot write the console log: {error}"));
        }
        self.pending = pending;
        self.pending.clear();
    }

    /// The last of what was printed, as text, whole lines where it was cut.
    pub(crate) fn tail(&self) -> String {
        let (front, back) = self.tail.as_slices();
        let mut bytes = [front, back].concat();
        if self.tail.len() == TAIL_BYTES_MAX {
            let first_line = bytes
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1);
            bytes.drain(..first_line);
        }
        text_within(&bytes, TAIL_BYTES_MAX)
    }

    fn write_log(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        if self.log_bytes + len > self.log_bytes_max {
            self.drop_older_half()?;
        }
        self.log.write_all_at(bytes, self.log_bytes)?;
        self.log_bytes += len;
        Ok(())
    }

    /// Keeps the newer half, from the start of a line. In place, so that whoever follows the file still has it.
    fn drop_older_half(&mut self) -> io::Result<()> {
        let keep = self.log_bytes.min(self.log_bytes_max / 2);
        let mut kept = vec![0; usize::try_from(keep).unwrap_or_default()];
        self.log.read_exact_at(&mut kept, self.log_bytes - keep)?;
        let line = kept
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let kept = &kept[line..];
        self.log.write_all_at(kept, 0)?;
        self.log_bytes = kept.len() as u64;
        self.log.set_len(self.log_bytes)
    }
}

/// Valid UTF-8 of at most `max` bytes, the end of what was given. Bytes that are not text grow to three when replaced.
fn text_within(bytes: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let cut = text.len().saturating_sub(max);
    let start = (cut..=text.len())
        .find(|index| text.is_char_boundary(*index))
        .unwrap_or(text.len());
    text[start..].to_owned()
}

impl ConsoleWriter {
    pub(crate) fn new(console: SharedConsole) -> Self {
        Self { console }
    }
}

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Ok(mut console) = self.console.lock() {
            console.append(bytes);
        }
        Ok(bytes.len())
    }

    /// The serial port flushes after every byte; lines are flushed when they end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn console(dir: &Path, log_bytes_max: u64) -> Console {
        let config = ConsoleConfig {
            log: dir.join("console.log"),
            log_bytes_max,
        };
        Console::create(&config, None).unwrap()
    }

    #[test]
    fn the_log_stays_within_its_limit_and_keeps_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut console = console(dir.path(), 8192);
        for number in 0..10_000 {
            console.append(format!("line {number}\n").as_bytes());
            assert!(std::fs::metadata(dir.path().join("console.log")).unwrap().len() <= 8192);
        }
        let log = std::fs::read_to_string(dir.path().join("console.log")).unwrap();
        assert!(log.ends_with("line 9998\nline 9999\n"));
        let numbers: Vec<u32> = log
            .lines()
            .map(|line| line.strip_prefix("line ").unwrap().parse().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        assert!(log.len() >= 4000);
        assert!(console.tail().ends_with("line 9999\n"));
    }

    #[test]
    fn an_endless_line_is_bounded_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut console = console(dir.path(), 8192);
        for _ in 0..100 {
            console.append(&[0xff; 1000]);
        }
        assert!(std::fs::metadata(dir.path().join("console.log")).unwrap().len() <= 8192);
        assert!(console.tail().len() <= TAIL_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn text_is_the_valid_end_of_any_bytes(bytes: Vec<u8>, max in 0..64_usize) {
            let text = text_within(&bytes, max);
            prop_assert!(text.len() <= max);
            prop_assert!(String::from_utf8_lossy(&bytes).ends_with(&text));
        }
    }
}

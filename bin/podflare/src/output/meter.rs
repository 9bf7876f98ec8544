//! Counts what goes through, and shows it on a terminal when it takes longer than a moment.

use std::io::{self, IsTerminal as _, Read};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What takes no longer needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Meter {
    content: Box<dyn Read + Send>,
    size: Option<u64>,
    bytes: u64,
    begun: Instant,
    terminal: bool,
    bar: Option<ProgressBar>,
}

impl Meter {
    pub(crate) fn new(content: Box<dyn Read + Send>, size: Option<u64>) -> Self {
        Self {
            content,
            size,
            bytes: 0,
            begun: Instant::now(),
            terminal: io::stderr().is_terminal(),
            bar: None,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.bytes
    }

    fn show(&mut self) {
        if !self.terminal || self.begun.elapsed() < PATIENCE {
            return;
        }
        let size = self.size;
        let bar = self.bar.get_or_insert_with(|| bar(size));
        bar.set_position(self.bytes);
    }
}

impl Read for Meter {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.bytes += count as u64;
        self.show();
        Ok(count)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (
            ProgressBar::new(size),
            "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

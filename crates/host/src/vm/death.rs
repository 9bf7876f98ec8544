//! Saying why a VM is no more.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use vmm_proto::EndCause;

/// Longest tail of a log quoted in an error, in bytes.
const TAIL_BYTES: u64 = 2 * 1024;

/// One line for people.
pub(crate) fn describe(cause: &EndCause) -> String {
    match cause {
        EndCause::PowerOff => "the guest powered itself off".to_owned(),
        EndCause::Reset => "the guest asked for a reboot, and a sandbox is not rebooted".to_owned(),
        EndCause::GuestPanic => "the guest's kernel panicked".to_owned(),
        EndCause::TripleFault => "the guest's CPU met a triple fault".to_owned(),
        EndCause::Stopped => "the VM was stopped".to_owned(),
        EndCause::Internal(chain) => format!("the VM process met an error: {chain}"),
    }
}

/// The end of the guest's console; empty when there is none.
pub(crate) fn console_tail(console: &Path) -> String {
    tail(console, TAIL_BYTES).unwrap_or_default()
}

/// The end of what the VM process itself complained about; empty when there is nothing.
pub(crate) fn stderr_tail(stderr: &Path) -> String {
    tail(stderr, TAIL_BYTES).unwrap_or_default()
}

/// The last whole lines of a file that fit in `bytes_max`, made valid and printable: a guest wrote it.
fn tail(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let skipped = len.saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = match text.split_once('\n') {
        Some((_, whole)) if skipped > 0 => whole,
        _ => &text,
    };
    Ok(printable(whole.trim()))
}

fn printable(text: &str) -> String {
    text.chars()
        .filter(|character| *character == '\n' || !character.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_whole_printable_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(&path, b"first line\nsecond\x1b[0m \xff\r\nthird\n").unwrap();
        assert_eq!(
            tail(&path, 1000).unwrap(),
            "first line\nsecond[0m \u{fffd}\nthird"
        );
        assert_eq!(tail(&path, 10).unwrap(), "third");
        assert_eq!(console_tail(&dir.path().join("none")), "");
    }
}

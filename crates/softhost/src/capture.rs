//! What leaves and enters the software host, as a pcap file.
//!
//! QEMU writes it: everything passes it, and nothing inside the machine can hide from it, so it also shows that something
//! does *not* leave. What leaves a sandbox has become the machine's own traffic by then, from the machine's own address.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use thiserror::Error;

use crate::monitor::{Monitor, MonitorError};
use crate::qemu::NETDEV;
use crate::run_dir::{RunDir, RunDirError};

/// Name of the filter within QEMU; there is at most one.
const FILTER: &str = "capture";

/// Why there is no capture, or no end of it.
#[derive(Debug, Error)]
pub enum CaptureError {
    #[error("the run directory cannot be used")]
    RunDir(#[source] RunDirError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no ordinary file", .0.display())]
    NoFile(PathBuf),
    #[error("the path {} is not UTF-8", .0.display())]
    Path(PathBuf),
    #[error("another capture is being made, or QEMU does not answer")]
    Busy(#[source] MonitorError),
    #[error("QEMU does not capture")]
    Monitor(#[source] MonitorError),
}

/// A capture being made. It ends when this is dropped; should this process be killed, with the next capture or the machine.
#[derive(Debug)]
pub struct Capture {
    file: PathBuf,
    /// Held, so that there is one capture at a time. None when it has ended.
    monitor: Mutex<Option<Monitor>>,
}

impl Capture {
    /// Begins to write each packet, or its first `packet_bytes_max` bytes, to `file`, which is replaced and which only its
    /// owner may read.
    ///
    /// # Errors
    /// When the file cannot be written, no software host runs, or another capture is being made.
    pub fn start(run_dir: &Path, file: &Path, packet_bytes_max: u32) -> Result<Self, CaptureError> {
        let run_dir = RunDir::open(run_dir).map_err(CaptureError::RunDir)?;
        // QEMU works in another directory.
        let file = std::path::absolute(file).map_err(|source| CaptureError::Write {
            path: file.to_owned(),
            source,
        })?;
        let text = file.to_str().ok_or_else(|| CaptureError::Path(file.clone()))?;
        let mut monitor = Monitor::connect(&run_dir).map_err(|error| match error {
            MonitorError::Silent => CaptureError::Busy(error),
            error => CaptureError::Monitor(error),
        })?;
        // Of a process that was killed. It is an error when there is none.
        match monitor.execute("object-del", &json!({"id": FILTER})) {
            Ok(()) | Err(MonitorError::Refused { .. }) => {}
            Err(error) => return Err(CaptureError::Monitor(error)),
        }
        prepare(&file)?;
        let filter = json!({
            "qom-type": "filter-dump",
            "id": FILTER,
            "netdev": NETDEV,
            "file": text,
            "maxlen": packet_bytes_max,
        });
        monitor
            .execute("object-add", &filter)
            .map_err(CaptureError::Monitor)?;
        Ok(Self {
            file,
            monitor: Mutex::new(Some(monitor)),
        })
    }

    /// Bytes captured so far.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn bytes(&self) -> Result<u64, CaptureError> {
        let metadata = fs::metadata(&self.file).map_err(|source| CaptureError::Write {
            path: self.file.clone(),
            source,
        })?;
        Ok(metadata.len())
    }

    /// Ends it, if it has not been ended; then the file is whole.
    ///
    /// # Errors
    /// When the machine has ended, or does not answer.
    pub fn stop(&self) -> Result<(), CaptureError> {
        let mut held = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut monitor) = held.take() else {
            return Ok(());
        };
        monitor
            .execute("object-del", &json!({"id": FILTER}))
            .map_err(CaptureError::Monitor)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Who wants to know has asked.
        let _ = self.stop();
    }
}

/// Makes the file, for its owner only. QEMU would stand still if it opened a pipe that nobody reads.
fn prepare(file: &Path) -> Result<(), CaptureError> {
    if fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(CaptureError::NoFile(file.to_owned()));
    }
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file);
    made.map(drop).map_err(|source| CaptureError::Write {
        path: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_never_opened() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(prepare(directory.path()), Err(CaptureError::NoFile(_))));
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(prepare(&pipe), Err(CaptureError::NoFile(_))));
    }

    #[test]
    fn without_a_machine_there_is_no_capture_and_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("before.pcap");
        fs::write(&file, "before").unwrap();
        let error = Capture::start(&directory.path().join("run"), &file, 96).unwrap_err();
        assert!(matches!(error, CaptureError::Monitor(_)), "{error:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
    }
}

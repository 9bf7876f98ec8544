//! What a supervisor publishes about its host: one JSON file, always whole.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::processes::ProcessId;
use crate::run_dir::RunDir;

/// Where a host is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being started for the first time; the API does not answer yet.
    Starting,
    /// The API answers.
    Running,
    /// Being started again after it died or went silent.
    Restarting,
    Stopping,
    /// Stopped as asked.
    Stopped,
    /// Given up; `last_error` says why.
    Failed,
}

/// The two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostKind {
    Hardware,
    Software,
}

/// A host as its supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub state: State,
    pub kind: HostKind,
    /// Why this kind of host.
    pub reason: String,
    /// Where the API is.
    pub url: String,
    pub port: u16,
    pub supervisor: ProcessId,
    /// QEMU, or the host daemon on hardware; none between two starts.
    pub process: Option<ProcessId>,
    /// When the supervisor started, in seconds since 1970.
    pub started_at_unix_s: u64,
    /// How long the last start took until the API answered.
    pub boot_ms: Option<u64>,
    /// Starts that did not come to an answer and were tried again.
    pub retries: u32,
    /// Starts after an end of a host that had been running.
    pub restarts: u32,
    pub last_error: Option<String>,
    /// Memory of the software host.
    pub memory_mib: Option<u32>,
}

impl Status {
    /// Puts the file in place whole, so that a reader never sees half of one.
    pub(crate) fn write(&self, run_dir: &RunDir) -> io::Result<()> {
        let path = run_dir.status();
        let new = path.with_extension("json.new");
        let mut file = fs::File::create(&new)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        fs::rename(new, path)
    }

    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn status() -> Status {
        Status {
            state: State::Running,
            kind: HostKind::Software,
            reason: "the CPU shows neither vmx nor svm".to_owned(),
            url: "http://127.0.0.1:7070".to_owned(),
            port: 7070,
            supervisor: ProcessId {
                pid: 1,
                start_ticks: 2,
            },
            process: None,
            started_at_unix_s: 3,
            boot_ms: Some(4),
            retries: 5,
            restarts: 6,
            last_error: None,
            memory_mib: Some(4096),
        }
    }

    #[test]
    fn a_published_status_is_read_back_and_anything_else_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(directory.path()).unwrap();
        assert_eq!(Status::read(&run_dir.status()), None);
        status().write(&run_dir).unwrap();
        assert_eq!(Status::read(&run_dir.status()), Some(status()));
        fs::write(run_dir.status(), b"{\"state\":\"run").unwrap();
        assert_eq!(Status::read(&run_dir.status()), None);
    }
}

//! The host on this machine, as its run directory tells of it.

use std::time::Duration;

use softhost::{HostKind, Observed, State, Status};

use crate::failure::Failure;
use crate::settings::Directories;

/// A host that is well answers at once; one that is busy within this.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Looks at the run directory. Where none was ever made, looking makes none.
pub(crate) fn observe(directories: &Directories) -> Result<Observed, Failure> {
    if !directories.run.exists() {
        return Ok(Observed::NotRunning { last: None });
    }
    softhost::status(&directories.run).map_err(|error| Failure::because("run_dir", &error))
}

/// Where the API of the local host is, when there is one.
pub(crate) fn url(directories: &Directories) -> Option<String> {
    match observe(directories) {
        Ok(Observed::Supervised(status)) => Some(status.url),
        Ok(Observed::NotRunning { .. } | Observed::Abandoned { .. }) | Err(_) => None,
    }
}

/// Whether the API answers.
pub(crate) fn is_well(status: &Status) -> bool {
    softhost::is_well(status.port, ANSWER_LIMIT)
}

/// A kind of host, in words.
pub(crate) fn kind_name(kind: HostKind) -> &'static str {
    match kind {
        HostKind::Hardware => "hardware virtualization",
        HostKind::Software => "software host",
    }
}

/// A host's state, in words.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Running => "running",
        State::Restarting => "restarting",
        State::Stopping => "stopping",
        State::Stopped => "stopped",
        State::Failed => "failed",
    }
}

//! Another host daemon in the place of the one that runs, while its sandboxes go on.
//!
//! The daemon is asked (SIGUSR1) to let go of its VMs and end; whoever keeps it running starts the next one, which takes
//! them over: init in the software host, the supervisor on hardware.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use thiserror::Error;

use crate::control::ControlError;
use crate::health;
use crate::operate::{self, Observed, OperateError, exec_in_machine};
use crate::status::{HostKind, State, Status};

/// What init takes for a wish, and does not wait before it starts the next one.
const HAND_OVER: &str = "touch /run/restarting && kill -USR1 \"$(cat /run/hostd.pid)\"";

const POLL: Duration = Duration::from_millis(100);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Why there is no other daemon.
#[derive(Debug, Error)]
pub enum RestartError {
    #[error("the host cannot be looked at")]
    Status(#[source] OperateError),
    #[error("no host is running")]
    NotRunning,
    #[error("the software host did not restart its daemon")]
    Machine(#[source] ControlError),
    #[error("cannot signal the host daemon (process {pid})")]
    Signal { pid: i32, source: Errno },
    #[error("the next daemon did not answer within {} s", .0.as_secs())]
    Slow(Duration),
}

/// Which daemon it is.
#[derive(Debug, PartialEq, Eq)]
enum Daemon {
    /// As the software host has it.
    Inside(String),
    Process(i32),
}

/// Has the daemon hand over, and waits until the next one answers.
///
/// # Errors
/// When no host runs here, or the next daemon does not come up in time; its sandboxes run on even then.
pub fn restart(run_dir: &Path, limit: Duration) -> Result<(), RestartError> {
    let deadline = Instant::now() + limit;
    let status = running(run_dir)?;
    let before = daemon(run_dir, &status)?;
    match (status.kind, status.process) {
        (HostKind::Software, _) => {
            let asked = exec_in_machine(run_dir, HAND_OVER, ANSWER);
            asked.map_err(RestartError::Machine)?;
        }
        (HostKind::Hardware, Some(process)) => {
            let signalled = process.signal(Signal::SIGUSR1);
            signalled.map_err(|source| RestartError::Signal {
                pid: process.pid,
                source,
            })?;
        }
        (HostKind::Hardware, None) => return Err(RestartError::NotRunning),
    }
    while Instant::now() < deadline {
        // On the way from one to the other neither can be asked.
        let now = running(run_dir).and_then(|status| daemon(run_dir, &status));
        if now.is_ok_and(|now| now != before) && health::is_well(status.port, ANSWER) {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    Err(RestartError::Slow(limit))
}

fn running(run_dir: &Path) -> Result<Status, RestartError> {
    match operate::status(run_dir).map_err(RestartError::Status)? {
        Observed::Supervised(status) if matches!(status.state, State::Running | State::Restarting) => {
            Ok(*status)
        }
        _ => Err(RestartError::NotRunning),
    }
}

fn daemon(run_dir: &Path, status: &Status) -> Result<Daemon, RestartError> {
    match (status.kind, status.process) {
        (HostKind::Software, _) => {
            let answer = exec_in_machine(run_dir, "cat /run/hostd.pid", ANSWER);
            let answer = answer.map_err(RestartError::Machine)?;
            Ok(Daemon::Inside(
                String::from_utf8_lossy(&answer.output).trim().to_owned(),
            ))
        }
        (HostKind::Hardware, Some(process)) => Ok(Daemon::Process(process.pid)),
        (HostKind::Hardware, None) => Err(RestartError::NotRunning),
    }
}

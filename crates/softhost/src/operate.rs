//! What other commands do with a host that a supervisor keeps running: look at it, stop it, run things in it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use thiserror::Error;

use crate::console;
use crate::control::{self, Answer, ControlError, Request};
use crate::host::{end_orphans, orphans};
use crate::processes::ProcessId;
use crate::run_dir::{RunDir, RunDirError};
use crate::settings::Limits;
use crate::status::{State, Status};

/// How often a changing status is looked at.
const POLL: Duration = Duration::from_millis(50);
/// What a supervisor gets beyond the limit it sets its host, before it is killed itself.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(10);
/// What the channel may take beyond the command that runs.
const CHANNEL_GRACE: Duration = Duration::from_secs(10);

/// What is found in a run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Nothing runs. `last` is how the last host ended, if there was one.
    NotRunning { last: Option<Box<Status>> },
    /// A supervisor is alive; this is what it says.
    Supervised(Box<Status>),
    /// The supervisor was killed and left these processes behind; the next start or stop ends them.
    Abandoned { processes: Vec<ProcessId> },
}

/// What stopping came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    NothingRan,
    InOrder,
    /// Processes without a supervisor were ended, so many.
    Orphans(usize),
    /// The supervisor did not end in time and was killed with its host.
    ByForce,
}

/// Why a host could not be looked at or stopped.
#[derive(Debug, Error)]
pub enum OperateError {
    #[error("the run directory cannot be used")]
    RunDir(#[source] RunDirError),
    #[error("a supervisor runs but has not published a status yet; try again in a moment")]
    NoStatus,
    #[error("cannot signal the supervisor (process {pid})")]
    Signal { pid: i32, source: Errno },
    #[error("{stubborn} processes of the host do not end")]
    Stubborn { stubborn: usize },
    #[error("the host did not come up: {0}")]
    NotUp(String),
    #[error("the host was not up within {} s", .0.as_secs())]
    Slow(Duration),
}

/// Looks at the host of a run directory.
///
/// # Errors
/// When the run directory cannot be used.
pub fn status(run_dir: &Path) -> Result<Observed, OperateError> {
    let run_dir = RunDir::open(run_dir).map_err(OperateError::RunDir)?;
    let published = Status::read(&run_dir.status()).map(Box::new);
    if run_dir.is_locked().map_err(OperateError::RunDir)? {
        return published.map(Observed::Supervised).ok_or(OperateError::NoStatus);
    }
    let processes = orphans(&run_dir);
    Ok(if processes.is_empty() {
        Observed::NotRunning { last: published }
    } else {
        Observed::Abandoned { processes }
    })
}

/// Waits until the host of a supervisor just started is up. `changed` sees each status that differs from the last.
///
/// # Errors
/// When the host fails or stops, or `limit` is over. A supervisor that never gets to publish anything shows as
/// [`OperateError::Slow`]; whoever started it sees its exit sooner.
pub fn wait_until_up(
    run_dir: &Path,
    limit: Duration,
    mut changed: impl FnMut(&Status),
) -> Result<Status, OperateError> {
    let deadline = Instant::now() + limit;
    let mut last = None;
    while Instant::now() < deadline {
        match status(run_dir) {
            Ok(Observed::Supervised(status)) => {
                if last.as_ref() != Some(&status) {
                    changed(&status);
                }
                match status.state {
                    State::Running => return Ok(*status),
                    State::Failed | State::Stopping | State::Stopped => return Err(not_up(&status)),
                    State::Starting | State::Restarting => last = Some(status),
                }
            }
            // It was there and has gone since: the file says how.
            Ok(Observed::NotRunning { last: Some(status) }) if last.is_some() => return Err(not_up(&status)),
            Ok(_) | Err(OperateError::NoStatus) => {}
            Err(error) => return Err(error),
        }
        thread::sleep(POLL);
    }
    Err(OperateError::Slow(limit))
}

fn not_up(status: &Status) -> OperateError {
    OperateError::NotUp(
        status
            .last_error
            .clone()
            .unwrap_or_else(|| "it was stopped".to_owned()),
    )
}

/// Stops the host of a run directory, in order if it can be, and waits for the end.
///
/// # Errors
/// When the run directory cannot be used or a process refuses to end.
pub fn stop(run_dir: &Path, limits: &Limits) -> Result<Stopped, OperateError> {
    let run_dir = RunDir::open(run_dir).map_err(OperateError::RunDir)?;
    let locked = || run_dir.is_locked().map_err(OperateError::RunDir);
    let mut stopped = Stopped::NothingRan;
    if locked()? {
        let supervisor = Status::read(&run_dir.status())
            .ok_or(OperateError::NoStatus)?
            .supervisor;
        // The lock is held, but the status may be that of the supervisor before: then it is not alive.
        if !supervisor.is_alive() {
            return Err(OperateError::NoStatus);
        }
        let signal = |signal| {
            supervisor.signal(signal).map_err(|source| OperateError::Signal {
                pid: supervisor.pid,
                source,
            })
        };
        signal(Signal::SIGTERM)?;
        stopped = Stopped::InOrder;
        let deadline = Instant::now() + limits.stop + SUPERVISOR_GRACE;
        while locked()? {
            if Instant::now() >= deadline {
                signal(Signal::SIGKILL)?;
                supervisor.wait_for_end(SUPERVISOR_GRACE);
                stopped = Stopped::ByForce;
                break;
            }
            thread::sleep(POLL);
        }
    }
    match end_orphans(&run_dir) {
        (_, stubborn) if stubborn > 0 => Err(OperateError::Stubborn { stubborn }),
        (found, _) if found > 0 && stopped == Stopped::NothingRan => Ok(Stopped::Orphans(found)),
        _ => Ok(stopped),
    }
}

/// Runs a shell command inside the software host, for operators and tests. Its output is cut at 64 KiB.
///
/// # Errors
/// When there is no software host, or it does not answer.
pub fn exec_in_machine(run_dir: &Path, command: &str, limit: Duration) -> Result<Answer, ControlError> {
    talk(
        run_dir,
        &Request::Execute { command, limit },
        limit + CHANNEL_GRACE,
    )
}

/// Memory, load and processes of the software host, as text.
///
/// # Errors
/// When there is no software host, or it does not answer.
pub fn machine_stats(run_dir: &Path) -> Result<Answer, ControlError> {
    talk(run_dir, &Request::Stats, CHANNEL_GRACE)
}

/// Whether the software host's control channel answers.
///
/// # Errors
/// When there is no software host, or it does not answer.
pub fn ping_machine(run_dir: &Path) -> Result<(), ControlError> {
    talk(run_dir, &Request::Ping, CHANNEL_GRACE).map(drop)
}

/// The last lines of the console: of the machine, or of the host daemon on hardware.
///
/// # Errors
/// When the run directory cannot be used.
pub fn console_tail(run_dir: &Path, lines: usize) -> Result<Vec<String>, OperateError> {
    let run_dir = RunDir::open(run_dir).map_err(OperateError::RunDir)?;
    Ok(console::tail(&run_dir.console(), lines))
}

/// The channel serves one at a time, so whoever waits on it gives way to a supervisor that wants to power off.
fn talk(run_dir: &Path, request: &Request<'_>, limit: Duration) -> Result<Answer, ControlError> {
    let run_dir =
        RunDir::open(run_dir).map_err(|error| ControlError::Connect(std::io::Error::other(error)))?;
    let go_on = || Status::read(&run_dir.status()).is_none_or(|status| status.state != State::Stopping);
    control::ask(&run_dir, request, limit, go_on)
}

//! One host as a process: starts it, asks it to stop, says how it ended, finds one left behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use thiserror::Error;

use crate::console;
use crate::control::{self, Request};
use crate::initrd::{self, InitrdError};
use crate::plan::{HardwarePlan, Plan, SoftwarePlan};
use crate::processes::{self, ProcessId};
use crate::qemu;
use crate::run_dir::RunDir;
use crate::settings::Settings;
use crate::status::HostKind;

/// How long the machine may take to confirm that it is powering off.
const POWER_OFF_CONFIRM: Duration = Duration::from_secs(5);
/// How long an orphaned machine may take to power off after that.
const ORPHAN_POWER_OFF: Duration = Duration::from_secs(15);
/// How long a process may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// The option by whose value a host daemon of a run directory is recognised.
const DATA_OPTION: &str = "--data-dir";
/// Console lines that go into an error.
const TAIL_LINES: usize = 5;

/// Why a host cannot be started.
#[derive(Debug, Error)]
pub enum SpawnError {
    #[error("the machine's user land cannot be made")]
    Initrd(#[source] InitrdError),
    #[error("cannot prepare {}", path.display())]
    Prepare { path: PathBuf, source: io::Error },
    #[error("cannot run {}", program.display())]
    Run { program: PathBuf, source: io::Error },
}

impl Plan {
    #[must_use]
    pub fn kind(&self) -> HostKind {
        match self {
            Self::Software(_) => HostKind::Software,
            Self::Hardware(_) => HostKind::Hardware,
        }
    }

    /// Starts the host in a process group of its own, so that Ctrl-C reaches the supervisor alone.
    pub(crate) fn spawn(&self, settings: &Settings, run_dir: &RunDir) -> Result<Child, SpawnError> {
        let prepare = |path: PathBuf| move |source| SpawnError::Prepare { path, source };
        console::rotate(run_dir).map_err(prepare(run_dir.console()))?;
        let mut command = match self {
            Self::Software(plan) => software(plan, settings, run_dir)?,
            Self::Hardware(plan) => hardware(plan, settings, run_dir)?,
        };
        let program = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).process_group(0);
        command
            .spawn()
            .map_err(|source| SpawnError::Run { program, source })
    }

    /// Asks the host to end in order. Does not wait for it: the software host is asked from a thread.
    pub(crate) fn ask_to_stop(&self, run_dir: &RunDir, process: ProcessId) {
        match self {
            Self::Hardware(_) => {
                let _ = process.signal(Signal::SIGTERM);
            }
            Self::Software(_) => {
                let run_dir = run_dir.clone();
                thread::spawn(move || power_off(&run_dir, process));
            }
        }
    }

    /// How a host ended, with what it said last.
    pub(crate) fn describe_end(&self, status: ExitStatus, run_dir: &RunDir) -> String {
        let (who, log) = match self {
            Self::Software(_) => ("the machine", run_dir.qemu_log()),
            Self::Hardware(_) => ("the host daemon", run_dir.console()),
        };
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("{who} ended with status {code}"),
            (None, Some(signal)) => format!("{who} was killed by signal {signal}"),
            (None, None) => format!("{who} ended"),
        };
        let mut said = console::tail(&log, TAIL_LINES);
        if matches!(self, Self::Software(_)) {
            said.extend(console::tail(&run_dir.console(), TAIL_LINES));
        }
        said.retain(|line| !line.trim().is_empty());
        if said.is_empty() {
            how
        } else {
            format!("{how}; it said: {}", said.join(" | "))
        }
    }
}

/// The hosts of this run directory that are there although nobody supervises them.
pub(crate) fn orphans(run_dir: &RunDir) -> Vec<ProcessId> {
    let mut found = machines(run_dir);
    found.extend(processes::find_by_argument(DATA_OPTION, &run_dir.hostd_data()));
    found
}

/// Ends orphans, in order where they can; returns how many there were and how many would not go.
pub(crate) fn end_orphans(run_dir: &RunDir) -> (usize, usize) {
    let found = orphans(run_dir);
    for machine in machines(run_dir) {
        power_off(run_dir, machine);
        machine.wait_for_end(ORPHAN_POWER_OFF);
    }
    let stubborn = found.iter().filter(|process| !process.end(TERM_GRACE)).count();
    (found.len(), stubborn)
}

fn machines(run_dir: &RunDir) -> Vec<ProcessId> {
    processes::find_by_argument(qemu::PID_OPTION, &run_dir.machine_pid())
}

/// A machine that cannot be asked, as it is still booting or wedged, is ended through QEMU, which at least closes
/// its disks properly; their journal does the rest.
fn power_off(run_dir: &RunDir, machine: ProcessId) {
    if control::ask(run_dir, &Request::PowerOff, POWER_OFF_CONFIRM, || {
        machine.is_alive()
    })
    .is_err()
    {
        let _ = machine.signal(Signal::SIGTERM);
    }
}

fn software(plan: &SoftwarePlan, settings: &Settings, run_dir: &RunDir) -> Result<Command, SpawnError> {
    initrd::write(&run_dir.initrd(), plan, settings).map_err(SpawnError::Initrd)?;
    let log_path = run_dir.qemu_log();
    let log = File::create(&log_path).map_err(|source| SpawnError::Prepare {
        path: log_path,
        source,
    })?;
    let mut command = Command::new(qemu::QEMU);
    command
        .args(qemu::arguments(plan, run_dir, settings.port))
        .current_dir(run_dir.root())
        .stdout(Stdio::null())
        .stderr(log);
    Ok(command)
}

fn hardware(plan: &HardwarePlan, settings: &Settings, run_dir: &RunDir) -> Result<Command, SpawnError> {
    let prepare = |path: PathBuf| move |source| SpawnError::Prepare { path, source };
    fs::create_dir_all(run_dir.hostd_data()).map_err(prepare(run_dir.hostd_data()))?;
    let open = || {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(run_dir.console())
    };
    let (out, err) = open()
        .and_then(|out| Ok((out, open()?)))
        .map_err(prepare(run_dir.console()))?;
    let mut command = Command::new(&plan.hostd);
    command
        .args(["--addr", &format!("127.0.0.1:{}", settings.port)])
        .arg(DATA_OPTION)
        .arg(run_dir.hostd_data())
        .arg("--images")
        .arg(&plan.images)
        .arg("--guest-initrd")
        .arg(&plan.guest_initrd)
        .arg("--vmm")
        .arg(&plan.vmm)
        .arg("--netd")
        .arg(&plan.netd)
        .arg("--authority")
        .arg(&plan.authority)
        .args(["--vcpus", &plan.vcpus.to_string()])
        .args(&settings.hostd_arguments)
        .envs(
            settings
                .hostd_environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .stdout(out)
        .stderr(err);
    Ok(command)
}

//! Starting a supervisor of its own session, and waiting until its host answers.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use softhost::{HostKind, Limits, Observed, ProcessId, State, Status};

use crate::commands::supervise;
use crate::context::Context;
use crate::failure::Failure;
use crate::follow::{Follower, printable};
use crate::local;
use crate::output::Steps;
use crate::settings::{CONSOLE, Directories, SUPERVISOR_LOG};

/// How often the supervisor's word is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Lines of a log that go into an error.
const TAIL_LINES: usize = 15;

/// Starts a supervisor that outlives us, and waits until its host answers. An interrupt meanwhile stops it again.
pub(crate) fn detached(
    context: &Context,
    directories: &Directories,
    from_file: &[(String, String)],
    steps: &Steps,
) -> Result<Status, Failure> {
    let cannot = |error| Failure::while_doing("supervisor", "cannot start the supervisor", &error);
    let log = supervise::new_log(directories).map_err(cannot)?;
    let (tell, told) = mpsc::channel();
    let own = directories.clone();
    let armed = context.interrupts.on_interrupt(move || {
        if let Ok(Some(supervisor)) = told.recv() {
            end(supervisor, &own);
        }
    });
    let mut supervisor = command(directories, from_file)
        .and_then(|mut command| {
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
        })
        .map_err(cannot)?;
    let process = ProcessId::of(supervisor.id().cast_signed());
    // Fails only when an interrupt has been dealt with, and then this process is about to end.
    let _ = tell.send(process);
    let waited = wait(&mut supervisor, directories, steps);
    if waited.is_err() {
        steps.abandon();
        context.interrupts.settle();
        // One that is only too slow must not come up after we said that it failed.
        process.into_iter().for_each(|process| end(process, directories));
    }
    drop(armed);
    waited
}

/// Becomes the supervisor. Returns only when that fails.
pub(crate) fn in_foreground(
    context: &Context,
    directories: &Directories,
    from_file: &[(String, String)],
) -> Failure {
    context
        .printer
        .note("the host runs until you press Ctrl-C; `podflare status` tells from elsewhere how it is");
    let error = match command(directories, from_file) {
        Ok(mut command) => command.arg("--foreground").exec(),
        Err(error) => error,
    };
    Failure::while_doing("supervisor", "cannot become the supervisor", &error)
}

/// Ends a supervisor that we have started ourselves, with its host, wherever it is in its start: at first it can
/// neither be found through the run directory, nor does it catch signals yet.
fn end(supervisor: ProcessId, directories: &Directories) {
    let limits = Limits::default();
    let _ = kill(Pid::from_raw(supervisor.pid), Signal::SIGTERM);
    let deadline = Instant::now() + limits.stop;
    while supervisor.is_alive() && Instant::now() < deadline {
        thread::sleep(POLL);
    }
    // Ends what may be left, the supervisor included.
    let _ = softhost::stop(&directories.run, &limits);
}

/// Ourselves as a supervisor. What the configuration file says about the daemon comes along as variables, as if it had
/// been set there, but what is really set there counts.
fn command(directories: &Directories, from_file: &[(String, String)]) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    let unset = from_file.iter().filter(|(name, _)| env::var_os(name).is_none());
    command
        .envs(unset.map(|(name, value)| (name, value)))
        .arg("supervise")
        .arg("--state-dir")
        .arg(&directories.state)
        .arg("--cache-dir")
        .arg(&directories.cache);
    Ok(command)
}

fn wait(supervisor: &mut Child, directories: &Directories, steps: &Steps) -> Result<Status, Failure> {
    let limits = Limits::default();
    // The supervisor gives up by itself before this.
    let patience = limits.boot * (limits.boot_tries + 1);
    let deadline = Instant::now() + patience;
    steps.begin("starting the host");
    while Instant::now() < deadline {
        if let Some(status) = published(supervisor, directories) {
            match status.state {
                State::Running => {
                    steps.finish("the host answers");
                    return Ok(status);
                }
                State::Failed | State::Stopped | State::Stopping => {
                    return Err(did_not_come_up(&status, directories));
                }
                State::Starting | State::Restarting => steps.at(&progress(&status, directories)),
            }
        }
        if let Ok(Some(status)) = supervisor.try_wait() {
            return Err(supervisor_ended(status, directories));
        }
        thread::sleep(POLL);
    }
    Err(Failure::new(
        "no_answer",
        format!("the host did not answer within {} s", patience.as_secs()),
    )
    .hint("`podflare logs` shows how far it came"))
}

/// What this supervisor says; what an earlier one has left there does not count.
fn published(supervisor: &Child, directories: &Directories) -> Option<Status> {
    let status = match local::observe(directories) {
        Ok(Observed::Supervised(status) | Observed::NotRunning { last: Some(status) }) => status,
        Ok(Observed::NotRunning { last: None } | Observed::Abandoned { .. }) | Err(_) => return None,
    };
    (status.supervisor.pid == supervisor.id().cast_signed()).then_some(*status)
}

/// The newest line of the machine's console tells best how far it is.
fn progress(status: &Status, directories: &Directories) -> String {
    let line = last_lines(directories, CONSOLE, 1).join(" ");
    match status.retries {
        0 => line,
        retries => format!("(try {}) {line}", retries + 1),
    }
}

fn did_not_come_up(status: &Status, directories: &Directories) -> Failure {
    let why = status.last_error.as_deref().unwrap_or("it was stopped");
    let mut text = format!("the {} did not come up: {why}", local::kind_name(status.kind));
    text.push_str(&last_words(directories, CONSOLE));
    let failure = Failure::new("host_failed", text);
    match status.kind {
        HostKind::Hardware => failure.hint("`podflare up --software` does without hardware virtualization"),
        HostKind::Software => {
            failure.hint("`podflare doctor` checks this machine; `podflare logs` shows more")
        }
    }
}

fn supervisor_ended(status: std::process::ExitStatus, directories: &Directories) -> Failure {
    let words = last_words(directories, SUPERVISOR_LOG);
    Failure::new(
        "supervisor",
        format!("the supervisor ended early ({status}){words}"),
    )
}

/// The end of a log, indented, after a line break; nothing when there is none.
fn last_words(directories: &Directories, log: &str) -> String {
    last_lines(directories, log, TAIL_LINES)
        .into_iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}

fn last_lines(directories: &Directories, log: &str, lines: usize) -> Vec<String> {
    let read =
        Follower::at_last_lines(&directories.run.join(log), lines).and_then(|mut follower| follower.read());
    printable(&read.unwrap_or_default())
        .lines()
        .map(str::to_owned)
        .collect()
}

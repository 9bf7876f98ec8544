//! Keeps one host running: carries out what [`Lifecycle`](crate::lifecycle) decides and publishes how it goes.
//!
//! Runs in the foreground until the host is stopped by SIGTERM or SIGINT, or has failed for good.
//! When it is killed the machine lives on, unwatched; the next start or stop in the same run directory ends that
//! machine first.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pod_types::ErrorChain;
use signal_hook::SigId;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use thiserror::Error;

use crate::backlog;
use crate::console;
use crate::health;
use crate::host::end_orphans;
use crate::lifecycle::{Command, End, Event, Lifecycle, Phase};
use crate::plan::Plan;
use crate::port::{self, PortError};
use crate::processes::ProcessId;
use crate::run_dir::{RunDir, RunDirError};
use crate::settings::Settings;
use crate::status::{State, Status};

/// How often the state is looked at; signals and ends of children come at once.
const TICK_MS: u8 = 50;
/// How often the size of the console is looked at.
const CONSOLE_PERIOD: Duration = Duration::from_secs(5);
/// Pause between two questions while the host starts, and while it runs: each costs about 1 ms of emulated CPU.
const ASK_STARTING: Duration = Duration::from_millis(50);
const ASK_RUNNING: Duration = Duration::from_secs(2);
/// How long one answer may take. While the machine has no network yet a question hangs, so the first are short;
/// they grow, since on a busy machine a slow answer is an answer too.
const ANSWER_FIRST: Duration = Duration::from_millis(300);
const ANSWER_GROWTH: Duration = Duration::from_millis(20);
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a supervisor that is just ending may still hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is nothing to supervise.
#[derive(Debug, Error)]
pub enum SuperviseError {
    #[error("the run directory cannot be used")]
    RunDir(#[source] RunDirError),
    #[error("{stubborn} processes of a host that lost its supervisor do not end")]
    Orphans { stubborn: usize },
    #[error(transparent)]
    Port(PortError),
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    #[error("cannot publish the status")]
    Status(#[source] io::Error),
}

/// Runs the host until it is stopped or fails for good. `reason` says why it is this kind of host.
///
/// # Errors
/// When another supervisor runs here, the port is taken, or the run directory cannot be used.
pub fn supervise(settings: &Settings, plan: &Plan, reason: &str) -> Result<End, SuperviseError> {
    let signals = Signals::listen().map_err(SuperviseError::Signals)?;
    run(settings, plan, reason, |limit| signals.wait(limit))
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Nothing,
    StopAsked,
}

fn run(
    settings: &Settings,
    plan: &Plan,
    reason: &str,
    wait: impl Fn(PollTimeout) -> Wake,
) -> Result<End, SuperviseError> {
    let run_dir = RunDir::open(&settings.run_dir).map_err(SuperviseError::RunDir)?;
    let _lock = run_dir.lock(LOCK_PATIENCE).map_err(SuperviseError::RunDir)?;
    let (_, stubborn) = end_orphans(&run_dir);
    if stubborn > 0 {
        return Err(SuperviseError::Orphans { stubborn });
    }
    port::require_free(settings.port).map_err(SuperviseError::Port)?;
    let mut supervisor = Supervisor::new(settings, plan, &run_dir, reason);
    supervisor.publish().map_err(SuperviseError::Status)?;
    loop {
        supervisor.turn();
        if let Phase::Over(end) = &supervisor.lifecycle.phase {
            return Ok(end.clone());
        }
        if wait(PollTimeout::from(TICK_MS)) == Wake::StopAsked {
            supervisor.happen(Event::StopAsked);
        }
    }
}

#[derive(Debug)]
struct Supervisor<'a> {
    settings: &'a Settings,
    plan: &'a Plan,
    run_dir: &'a RunDir,
    lifecycle: Lifecycle,
    child: Option<Child>,
    asker: Asker,
    epoch: Instant,
    console_looked_at: Instant,
    /// Whether the machine that runs now has been given room for bursts of connections.
    is_widened: bool,
    published: Status,
}

impl<'a> Supervisor<'a> {
    fn new(settings: &'a Settings, plan: &'a Plan, run_dir: &'a RunDir, reason: &str) -> Self {
        let now = Instant::now();
        let published = Status {
            state: State::Starting,
            kind: plan.kind(),
            reason: reason.to_owned(),
            url: format!("http://127.0.0.1:{}", settings.port),
            port: settings.port,
            supervisor: ProcessId::current().unwrap_or(ProcessId {
                pid: 0,
                start_ticks: 0,
            }),
            process: None,
            started_at_unix_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            boot_ms: None,
            retries: 0,
            restarts: 0,
            last_error: None,
            memory_mib: match plan {
                Plan::Software(plan) => Some(plan.memory_mib),
                Plan::Hardware(_) => None,
            },
        };
        Self {
            settings,
            plan,
            run_dir,
            lifecycle: Lifecycle::new(settings.limits.clone()),
            child: None,
            asker: Asker::new(settings.port),
            epoch: now,
            console_looked_at: now,
            is_widened: false,
            published,
        }
    }

    /// Takes note of everything that has happened since the last turn, and of the time.
    fn turn(&mut self) {
        self.reap();
        while let Ok(well) = self.asker.answers.try_recv() {
            self.happen(if well { Event::Answered } else { Event::Unanswered });
        }
        self.happen(Event::Tick);
        let running = matches!(self.lifecycle.phase, Phase::Running { .. });
        if running && !self.is_widened {
            self.widen();
        }
        self.asker.running.store(running, Ordering::Relaxed);
        if self.console_looked_at.elapsed() >= CONSOLE_PERIOD {
            self.console_looked_at = Instant::now();
            if let Err(error) = console::bound(self.run_dir) {
                self.lifecycle.last_error = Some(format!("cannot cut the console: {error}"));
            }
        }
        // A full disk must not take the host down; the next change is published again.
        let _ = self.publish();
    }

    fn happen(&mut self, event: Event) {
        match self.lifecycle.handle(self.epoch.elapsed(), event) {
            None => {}
            Some(Command::Start) => self.start(),
            Some(Command::Kill) => {
                if let Some(child) = &mut self.child {
                    // Fails only when it has ended already, which the next turn sees.
                    let _ = child.kill();
                }
            }
            Some(Command::AskToStop) => {
                if let Some(process) = self.process() {
                    self.plan.ask_to_stop(self.run_dir, process);
                }
            }
        }
    }

    fn start(&mut self) {
        // Answers of the host before are no answers of this one.
        while self.asker.answers.try_recv().is_ok() {}
        match self.plan.spawn(self.settings, self.run_dir) {
            Ok(child) => {
                self.child = Some(child);
                self.is_widened = false;
            }
            Err(error) => self.happen(Event::StartFailed(ErrorChain(&error).to_string())),
        }
    }

    /// Before anybody is told that the machine is up.
    fn widen(&mut self) {
        self.is_widened = true;
        let (Plan::Software(_), Some(child)) = (self.plan, &self.child) else {
            return;
        };
        if let Err(error) = backlog::widen(child.id().cast_signed(), self.settings.port) {
            self.lifecycle.last_error = Some(format!("bursts of connections may be reset: {error}"));
        }
    }

    fn reap(&mut self) {
        let Some(child) = &mut self.child else { return };
        let how = match child.try_wait() {
            Ok(None) => return,
            Ok(Some(status)) => self.plan.describe_end(status, self.run_dir),
            Err(error) => format!("its end cannot be waited for: {error}"),
        };
        self.child = None;
        self.happen(Event::Ended(how));
    }

    fn process(&self) -> Option<ProcessId> {
        ProcessId::of(self.child.as_ref()?.id().cast_signed())
    }

    fn publish(&mut self) -> io::Result<()> {
        let lifecycle = &self.lifecycle;
        let (state, failure) = match &lifecycle.phase {
            Phase::Running { .. } => (State::Running, None),
            Phase::Stopping { .. } => (State::Stopping, None),
            Phase::Over(End::Stopped) => (State::Stopped, None),
            Phase::Over(End::Failed(why)) => (State::Failed, Some(why.clone())),
            _ if lifecycle.has_run => (State::Restarting, None),
            _ => (State::Starting, None),
        };
        let status = Status {
            state,
            process: self.process(),
            boot_ms: lifecycle
                .boot
                .map(|boot| u64::try_from(boot.as_millis()).unwrap_or(u64::MAX)),
            retries: lifecycle.retries,
            restarts: lifecycle.restarts,
            last_error: failure.or_else(|| lifecycle.last_error.clone()),
            ..self.published.clone()
        };
        if status != self.published || !self.run_dir.status().exists() {
            status.write(self.run_dir)?;
            self.published = status;
        }
        Ok(())
    }
}

impl Drop for Supervisor<'_> {
    /// Whatever way the supervisor ends short of being killed, no host stays behind.
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        // What a machine that is gone leaves behind would only puzzle; the initrd may also hold keys.
        for path in [
            self.run_dir.initrd(),
            self.run_dir.machine_pid(),
            self.run_dir.control_socket(),
            self.run_dir.monitor_socket(),
        ] {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Asks the API how it is, in a thread, as a question to a wedged host takes seconds.
#[derive(Debug)]
struct Asker {
    answers: Receiver<bool>,
    running: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Asker {
    fn new(port: u16) -> Self {
        let (send, answers) = mpsc::channel();
        let running = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(AtomicBool::new(false));
        let (is_running, is_over) = (Arc::clone(&running), Arc::clone(&stop));
        thread::spawn(move || {
            let mut limit = ANSWER_FIRST;
            let mut asked = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                let running = is_running.load(Ordering::Relaxed);
                // Looked at in short steps, so that a restart is asked about at once.
                if running && asked.elapsed() < ASK_RUNNING {
                    thread::sleep(ASK_STARTING);
                    continue;
                }
                let well = health::is_well(port, if running { ANSWER_MAX } else { limit });
                asked = Instant::now();
                limit = if well {
                    ANSWER_FIRST
                } else {
                    (limit + ANSWER_GROWTH).min(ANSWER_MAX)
                };
                if send.send(well).is_err() {
                    return;
                }
                thread::sleep(ASK_STARTING);
            }
        });
        Self {
            answers,
            running,
            stop,
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// SIGTERM, SIGINT and SIGCHLD as bytes on a socket; SIGHUP is ignored, as a terminal that closes stops nothing.
///
/// Handlers and not a blocked mask: a child inherits the mask, and a QEMU or daemon with SIGTERM blocked could not
/// be asked to end, while handlers go back to the default when a program is executed.
#[derive(Debug)]
struct Signals {
    registered: Vec<SigId>,
    stop: UnixStream,
    child: UnixStream,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let (stop, stop_sender) = UnixStream::pair()?;
        let (child, child_sender) = UnixStream::pair()?;
        stop.set_nonblocking(true)?;
        child.set_nonblocking(true)?;
        let registered = vec![
            signal_hook::low_level::pipe::register(SIGTERM, stop_sender.try_clone()?)?,
            signal_hook::low_level::pipe::register(SIGINT, stop_sender)?,
            signal_hook::low_level::pipe::register(SIGCHLD, child_sender)?,
            signal_hook::flag::register(SIGHUP, Arc::default())?,
        ];
        Ok(Self {
            registered,
            stop,
            child,
        })
    }

    fn wait(&self, limit: PollTimeout) -> Wake {
        let mut ready = [&self.stop, &self.child].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        // An interrupted or failed poll only makes this turn shorter.
        let _ = poll(&mut ready, limit);
        drain(&self.child);
        if drain(&self.stop) {
            Wake::StopAsked
        } else {
            Wake::Nothing
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Reads all there is; tells whether there was anything.
fn drain(mut end: &UnixStream) -> bool {
    let mut bytes = [0; 64];
    let mut any = false;
    while end.read(&mut bytes).is_ok_and(|len| len > 0) {
        any = true;
    }
    any
}

#[cfg(test)]
mod tests;

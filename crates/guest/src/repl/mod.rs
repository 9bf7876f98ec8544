//! The REPL: one long-lived Python process, kept alive by a supervisor.
//!
//! ```text
//!           start, imports, warm-up
//!  (none) ─────────────────────────► current ──► the process ends ──► (none), at once again
//!     ▲                                                │
//!     └── could not be started: wait, longer each time ┘
//! ```
//!
//! Whoever has the turn talks to the current process; the supervisor thread only starts processes and waits for
//! their end. Reseeding goes past the turn, by a signal, because a clone may be in the middle of a run.

mod job;
mod preload;
mod process;
mod reseed;
mod wire;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pod_types::ErrorChain;
use thiserror::Error;

use crate::children::Children;
use crate::run::{Output, Writers};
use crate::services::Config;
pub(crate) use job::ReplRun;
use process::{Process, StartProcessError};
use reseed::ReseedError;
use wire::Kind;

/// How long a run waits for a REPL that is being restarted.
const RESTART_WAIT: Duration = process::START_WAIT;
/// How long reseeding may take in all; the host destroys the clone otherwise.
const RESEED_WAIT: Duration = Duration::from_secs(5);
/// First and longest pause between attempts to start Python.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Times a run is given to another process because the one before was found dead when the code was sent.
const SENDS_MAX: usize = 3;

/// Why Python code cannot be run now.
#[derive(Debug, Error)]
pub(crate) enum ReplError {
    #[error("Python does not start: {0}")]
    DoesNotStart(String),
    #[error("Python has not come up within {} s", RESTART_WAIT.as_secs())]
    NotInTime,
    #[error("the Python process ends as soon as it is given code, or does not draw new randomness")]
    KeepsDying,
    #[error("cannot create the pipes of a run")]
    Pipes(#[source] io::Error),
}

#[derive(Debug)]
pub(crate) struct Repl {
    children: Arc<Children>,
    config: Config,
    slot: Mutex<Slot>,
    changed: Condvar,
    /// Numbers runs, and the `<cell N>` of tracebacks.
    cells: AtomicU32,
    /// Pipes for the next run, made while nobody waits.
    spare: Mutex<Option<(Output, Writers)>>,
}

#[derive(Debug, Default)]
struct Slot {
    current: Option<Arc<Process>>,
    /// Why the last attempt failed, until one succeeds.
    failure: Option<String>,
    stopping: bool,
    /// Times that new randomness had to be drawn.
    reseedings: u64,
}

impl Repl {
    /// Starts the supervisor; the first process is then on its way.
    pub(crate) fn supervise(children: Arc<Children>, config: Config) -> io::Result<Arc<Self>> {
        let repl = Arc::new(Self {
            children,
            config,
            slot: Mutex::default(),
            changed: Condvar::new(),
            cells: AtomicU32::new(0),
            spare: Mutex::default(),
        });
        let supervisor = Arc::clone(&repl);
        thread::Builder::new()
            .name("repl".to_owned())
            .spawn(move || supervisor.keep_alive())?;
        Ok(repl)
    }

    /// Gives code to the current process. The pipes are made anew for each attempt.
    pub(crate) fn start(
        &self,
        code: &str,
        traceparent: Option<&str>,
    ) -> Result<(ReplRun, Output), ReplError> {
        let traced = traceparent.map(|traceparent| format!("{traceparent}\n{code}"));
        let (kind, code) = match &traced {
            Some(traced) => (Kind::Traced, traced.as_str()),
            None => (Kind::Run, code),
        };
        let cell = self.cells.fetch_add(1, Ordering::Relaxed);
        for _ in 0..SENDS_MAX {
            let process = self.current(Instant::now() + RESTART_WAIT)?;
            if !process.is_reseeded() {
                process.abandon();
                continue;
            }
            let (output, writers) = match self.spare().take() {
                Some(pipes) => pipes,
                None => Output::new().map_err(ReplError::Pipes)?,
            };
            let Writers { stdout, stderr } = &writers;
            match process.send_run(cell, kind, code, [stdout, stderr]) {
                Ok(()) => return Ok((ReplRun::new(process, cell), output)),
                Err(_) => process.abandon(),
            }
        }
        Err(ReplError::KeepsDying)
    }

    /// What was run so far does not count; the next run is number 1.
    pub(crate) fn number_from_one(&self) {
        self.cells.store(1, Ordering::Relaxed);
    }

    /// Makes ready for the next run what does not depend on it. To be called when the last one's host has its answer.
    pub(crate) fn prepare(&self) {
        let mut spare = self.spare();
        if spare.is_none() {
            // Without them the next run makes its own, and reports why it cannot.
            *spare = Output::new().ok();
        }
    }

    /// Makes Python draw new randomness from the kernel, which must be fresh. A process that is being started now is made
    /// to before it is used.
    pub(crate) fn reseed(&self) -> Result<(), ReseedError> {
        let current = {
            let mut slot = self.lock();
            slot.reseedings += 1;
            slot.current.clone()
        };
        let Some(process) = current.filter(|process| !process.is_abandoned()) else {
            return Ok(());
        };
        match process.reseed(Instant::now() + RESEED_WAIT) {
            Err(ReseedError::Ended) => {
                process.abandon();
                Ok(())
            }
            result => result,
        }
    }

    /// Ends the process and starts no other.
    pub(crate) fn stop(&self) {
        let mut slot = self.lock();
        slot.stopping = true;
        if let Some(process) = &slot.current {
            process.kill();
        }
        self.changed.notify_all();
        while slot.current.is_some() {
            slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The process to talk to, waiting for a restart; fails early while Python does not start at all.
    fn current(&self, deadline: Instant) -> Result<Arc<Process>, ReplError> {
        let mut slot = self.lock();
        loop {
            if let Some(process) = slot.current.as_ref().filter(|process| !process.is_abandoned()) {
                return Ok(Arc::clone(process));
            }
            if let Some(failure) = &slot.failure {
                return Err(ReplError::DoesNotStart(failure.clone()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || slot.stopping {
                return Err(ReplError::NotInTime);
            }
            slot = self
                .changed
                .wait_timeout(slot, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the first process is ready.
    pub(crate) fn wait_until_ready(&self, bound: Duration) -> Result<(), ReplError> {
        self.current(Instant::now() + bound).map(drop)
    }

    fn keep_alive(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let (stopping, reseedings) = {
                let slot = self.lock();
                (slot.stopping, slot.reseedings)
            };
            if stopping {
                break;
            }
            match Process::start(&self.children, &self.config) {
                Ok(process) => {
                    pause = PAUSE_MIN;
                    self.live(Arc::new(process), reseedings);
                }
                Err(error) => {
                    self.rest(&error, pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Has `process`, started after so many reseedings, used until it ends.
    fn live(&self, process: Arc<Process>, mut reseedings: u64) {
        {
            let mut slot = self.lock();
            while slot.reseedings != reseedings {
                reseedings = slot.reseedings;
                drop(slot);
                if process.reseed(Instant::now() + RESEED_WAIT).is_err() {
                    process.kill();
                }
                slot = self.lock();
            }
            slot.failure = None;
            if slot.stopping {
                process.kill();
            }
            slot.current = Some(Arc::clone(&process));
            self.changed.notify_all();
        }
        process.wait();
        process.abandon();
        self.lock().current = None;
        self.changed.notify_all();
    }

    fn rest(&self, error: &StartProcessError, pause: Duration) {
        let mut slot = self.lock();
        slot.failure = Some(ErrorChain(error).to_string());
        self.changed.notify_all();
        let until = Instant::now() + pause;
        while !slot.stopping && Instant::now() < until {
            slot = self
                .changed
                .wait_timeout(slot, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn spare(&self) -> MutexGuard<'_, Option<(Output, Writers)>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

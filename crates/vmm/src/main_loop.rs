//! The one loop of the process: control socket, devices, vCPU events.
//!
//! Subscribers of the event manager only move bytes; decisions are made here, between two turns, with everything at
//! hand and nothing locked.
//!
//! Life of the process: listen → (Start) build the VM and let it run → serve → the VM ends → report to every connected
//! daemon → return. A process nobody connects to and starts within [`START_PATIENCE`] ends by itself: the daemon that
//! spawned it is gone.
//!
//! A clone begins in the middle of that: `serve` returns in the forked child, which becomes a process of its own with a
//! new loop, and serves its own VM.

mod handle;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberId, SubscriberOps as _,
};
use pod_types::ErrorChain;
use thiserror::Error;
use vmm_proto::{EndCause, EndReport, Event, FromVmm, RestoreConfig, ThawConfig, VmConfig};
use vmm_sys_util::eventfd::EventFd;

use crate::clone::{self, Birth};
use crate::confine::Confinement;
use crate::control::{ControlError, ControlServer};
use crate::events::{self, EventReceiver, EventSender};
use crate::log;
use crate::machine::RestoreError;
use crate::proc::Proc;
use crate::session::Session;
use crate::snapshot;

/// How long a process without a VM waits alone for a daemon.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// What one turn of the loop takes from the kernel at most.
const EVENTS_PER_TURN: usize = 64;

#[derive(Debug, Error)]
pub enum RunError {
    #[error("cannot set up the event loop")]
    EventLoop(#[source] event_manager::Error),
    #[error("cannot make an event")]
    Event(#[source] io::Error),
    #[error("cannot open /proc")]
    Proc(#[source] io::Error),
    #[error("cannot open the control socket")]
    Control(#[source] ControlError),
    #[error("cannot start the VM")]
    Start(#[source] crate::machine::MachineError),
    #[error("cannot go on as a clone")]
    Clone(#[source] crate::machine::MachineError),
    #[error("cannot serve the clone's control socket")]
    CloneControl(#[source] io::Error),
    #[error("no daemon started a VM within {} s", START_PATIENCE.as_secs())]
    Abandoned,
}

type Subscriber = Arc<Mutex<dyn MutEventSubscriber + Send>>;

/// One VM process.
#[expect(
    missing_debug_implementations,
    reason = "the event manager of the event-manager crate has none"
)]
pub struct MainLoop {
    manager: EventManager<Subscriber>,
    events: EventReceiver,
    sender: EventSender,
    control: Option<Control>,
    session: Option<Session>,
    proc: Proc,
    confinement: Confinement,
    born: Instant,
}

struct Control {
    id: SubscriberId,
    server: Arc<Mutex<ControlServer>>,
}

/// What ends the serving of a VM by this loop.
enum Turn {
    Ended(EndCause),
    /// This is a forked child now.
    Born(Box<Birth>),
}

/// Wakes the loop; what there is to do is looked up after the turn.
struct Wake(EventFd);

impl MainLoop {
    /// # Errors
    /// The host has no descriptors left, or no `/proc`.
    pub fn new() -> Result<Self, RunError> {
        Self::with(Proc::open_self().map_err(RunError::Proc)?)
    }

    fn with(proc: Proc) -> Result<Self, RunError> {
        clone::prepare();
        snapshot::ask_kernel();
        let (sender, events) = events::channel().map_err(RunError::Event)?;
        let mut manager = EventManager::new_with_capacity(EVENTS_PER_TURN).map_err(RunError::EventLoop)?;
        let wake = events.wake().try_clone().map_err(RunError::Event)?;
        manager.add_subscriber(Arc::new(Mutex::new(Wake(wake))) as Subscriber);
        Ok(Self {
            manager,
            events,
            sender,
            control: None,
            session: None,
            proc,
            confinement: Confinement::Off,
            born: Instant::now(),
        })
    }

    /// Has the process confine itself before its guest runs.
    #[must_use]
    pub fn confined(self, confinement: Confinement) -> Self {
        Self { confinement, ..self }
    }

    /// Takes requests on a Unix socket at `path`.
    ///
    /// # Errors
    /// Another process answers there, or the path cannot be bound.
    pub fn listen(&mut self, path: &Path) -> Result<(), RunError> {
        let server = ControlServer::bind(path).map_err(RunError::Control)?;
        self.serve_control(server);
        Ok(())
    }

    fn serve_control(&mut self, server: ControlServer) {
        let server = Arc::new(Mutex::new(server));
        let id = self.manager.add_subscriber(Arc::clone(&server) as Subscriber);
        self.control = Some(Control { id, server });
    }

    /// Starts a VM without being asked over the socket; its console goes to `mirror` as well.
    ///
    /// # Errors
    /// The VM cannot be built.
    pub fn start(&mut self, config: &VmConfig, mirror: Option<io::Stdout>) -> Result<(), RunError> {
        let session = Session::start(config, &self.sender, mirror, (&self.proc, &mut self.confinement))
            .map_err(RunError::Start)?;
        self.adopt(session);
        Ok(())
    }

    /// Runs until the VM has ended, tells every daemon, and returns what happened. Returns in every process that has
    /// come to be by cloning as well.
    ///
    /// # Errors
    /// Nobody started a VM, or the event loop failed.
    pub fn run(mut self) -> Result<EndReport, RunError> {
        loop {
            match self.serve() {
                Ok(Turn::Born(birth)) => self = self.become_clone(*birth)?,
                Ok(Turn::Ended(cause)) => return Ok(self.end(cause)),
                // A VM without a main loop is lost; say so to whom it belongs.
                Err(error) if self.session.is_some() => {
                    return Ok(self.end(EndCause::Internal(ErrorChain(&error).to_string())));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn end(self, cause: EndCause) -> EndReport {
        let report = match self.session {
            Some(session) => session.finish(cause),
            None => EndReport {
                cause,
                console_tail: String::new(),
                uptime_ms: 0,
            },
        };
        if let Some(control) = &self.control {
            lock(&control.server).finish(&FromVmm::Event(Event::Ended(report.clone())));
        }
        report
    }

    fn serve(&mut self) -> Result<Turn, RunError> {
        loop {
            match self.manager.run_with_timeout(self.timeout_ms()) {
                Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EINTR => {}
                result => drop(result.map_err(RunError::EventLoop)?),
            }
            if let Some(turn) = self.handle_events() {
                return Ok(turn);
            }
            if let Some(turn) = self.handle_requests() {
                return Ok(turn);
            }
            if self.is_abandoned() {
                return Err(RunError::Abandoned);
            }
        }
    }

    /// In a forked child: leaves the parent's loop and connections, and builds its own.
    fn become_clone(self, birth: Birth) -> Result<Self, RunError> {
        clone::leave_process_group();
        let Self {
            manager,
            events,
            sender,
            control,
            session,
            proc,
            confinement,
            born: _,
        } = self;
        drop((manager, control));
        // A vCPU thread of the parent may have been at work on the channel when the process was forked.
        std::mem::forget((events, sender));
        let kept = session.iter().flat_map(Session::kept);
        let kept = kept.chain(birth.files.descriptors());
        clone::close_all_but(kept.chain([proc.descriptor()]));

        let mut clone = Self::with(proc)?.confined(confinement);
        let Birth { files, config } = birth;
        let (control, files) = files.split();
        let server = ControlServer::new(control).map_err(RunError::CloneControl)?;
        clone.serve_control(server);
        let inherited = match session {
            Some(session) => session.inherit(files, config, &clone.sender, &mut clone.confinement),
            None => return Err(RunError::Abandoned),
        };
        match inherited {
            Ok(session) => {
                clone.adopt(session);
                Ok(clone)
            }
            Err(error) => {
                // Whoever has connected is told why there will be no VM.
                clone.end(EndCause::Internal(ErrorChain(&error).to_string()));
                Err(RunError::Clone(error))
            }
        }
    }

    /// Starts the VM of a snapshot, paused.
    fn restore(&mut self, config: &RestoreConfig) -> Result<(), RestoreError> {
        let session = Session::restore(config, &self.sender, (&self.proc, &mut self.confinement))?;
        self.adopt(session);
        Ok(())
    }

    /// Starts a VM that was frozen, paused.
    fn thaw(&mut self, config: &ThawConfig) -> Result<(), RestoreError> {
        let session = Session::thaw(config, &self.sender, (&self.proc, &mut self.confinement))?;
        self.adopt(session);
        Ok(())
    }

    /// Serves a VM from now on.
    fn adopt(&mut self, session: Session) {
        for device in session.devices() {
            self.manager.add_subscriber(device.subscriber());
        }
        self.session = Some(session);
    }

    /// Until something is due by itself; -1 is for ever.
    fn timeout_ms(&self) -> i32 {
        let due = match &self.session {
            Some(session) => session.due(),
            None => self.is_alone().then(|| self.born + START_PATIENCE),
        };
        due.map_or(-1, |due| {
            let left = due.saturating_duration_since(Instant::now());
            // Rounded up: a wake-up just before the time would turn the loop for nothing.
            i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX)
        })
    }

    fn is_abandoned(&self) -> bool {
        self.session.is_none() && self.born.elapsed() >= START_PATIENCE && self.is_alone()
    }

    fn is_alone(&self) -> bool {
        let control = self.control.as_ref();
        control.is_none_or(|control| lock(&control.server).is_alone())
    }
}

impl MutEventSubscriber for Wake {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&self.0, EventSet::IN)) {
            log::line(format_args!("cannot watch vCPU events: {error}"));
        }
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {}
}

/// A thread that panicked has aborted the process, so the lock is never poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

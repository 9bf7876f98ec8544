//! The one loop of the process: control socket, devices, vCPU events.
//!
//! Subscribers of the event manager only move bytes; decisions are made here, between two turns, with everything at
//! hand and nothing locked.
//!
//! Life of the process: listen → (Start) build the VM and let it run → serve → the VM ends → report to every connected
//! daemon → return. A process nobody connects to and starts within [`START_PATIENCE`] ends by itself: the daemon that
//! spawned it is gone.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_manager::{
    EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberId, SubscriberOps as _,
};
use pod_types::ErrorChain;
use thiserror::Error;
use vmm_proto::{Command, EndCause, EndReport, Event, FromVmm, Outcome, Reply, Request, VmConfig};
use vmm_sys_util::eventfd::EventFd;

use crate::control::{ConnectionId, ControlError, ControlServer};
use crate::events::{self, EventReceiver, EventSender, MachineEvent};
use crate::log;
use crate::session::{Answer, Session};

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
    #[error("cannot open the control socket")]
    Control(#[source] ControlError),
    #[error("cannot start the VM")]
    Start(#[source] crate::machine::MachineError),
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
    session: Option<Session<Waiter>>,
    born: Instant,
}

struct Control {
    id: SubscriberId,
    server: Arc<Mutex<ControlServer>>,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    connection: ConnectionId,
    request: u64,
}

/// Wakes the loop; what there is to do is looked up after the turn.
struct Wake(EventFd);

impl MainLoop {
    /// # Errors
    /// The host has no descriptors left.
    pub fn new() -> Result<Self, RunError> {
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
            born: Instant::now(),
        })
    }

    /// Takes requests on a Unix socket at `path`.
    ///
    /// # Errors
    /// Another process answers there, or the path cannot be bound.
    pub fn listen(&mut self, path: &Path) -> Result<(), RunError> {
        let server = ControlServer::bind(path).map_err(RunError::Control)?;
        let server = Arc::new(Mutex::new(server));
        let id = self.manager.add_subscriber(Arc::clone(&server) as Subscriber);
        self.control = Some(Control { id, server });
        Ok(())
    }

    /// Starts a VM without being asked over the socket; its console goes to `mirror` as well.
    ///
    /// # Errors
    /// The VM cannot be built.
    pub fn start(&mut self, config: &VmConfig, mirror: Option<io::Stdout>) -> Result<(), RunError> {
        self.build(config, mirror).map_err(RunError::Start)
    }

    /// Runs until the VM has ended, tells every daemon, and returns what happened.
    ///
    /// # Errors
    /// Nobody started a VM, or the event loop failed.
    pub fn run(mut self) -> Result<EndReport, RunError> {
        let outcome = self.serve();
        let cause = match outcome {
            Ok(cause) => cause,
            // A VM without a main loop is lost; say so to whom it belongs.
            Err(error) if self.session.is_some() => EndCause::Internal(ErrorChain(&error).to_string()),
            Err(error) => return Err(error),
        };
        let report = match self.session.take() {
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
        Ok(report)
    }

    fn serve(&mut self) -> Result<EndCause, RunError> {
        loop {
            match self.manager.run_with_timeout(self.timeout_ms()) {
                Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EINTR => {}
                result => drop(result.map_err(RunError::EventLoop)?),
            }
            if let Some(cause) = self.handle_events() {
                return Ok(cause);
            }
            if let Some(cause) = self.handle_requests() {
                return Ok(cause);
            }
            if self.is_abandoned() {
                return Err(RunError::Abandoned);
            }
        }
    }

    /// Until something is due by itself; -1 is for ever.
    fn timeout_ms(&self) -> i32 {
        let due = match &self.session {
            Some(session) => session.due(),
            None => Some(self.born + START_PATIENCE),
        };
        due.map_or(-1, |due| {
            let left = due.saturating_duration_since(Instant::now());
            // Rounded up: a wake-up just before the time would turn the loop for nothing.
            i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX)
        })
    }

    fn is_abandoned(&self) -> bool {
        let alone = self
            .control
            .as_ref()
            .is_none_or(|control| lock(&control.server).is_alone());
        self.session.is_none() && alone && self.born.elapsed() >= START_PATIENCE
    }

    fn handle_events(&mut self) -> Option<EndCause> {
        let session = self.session.as_mut()?;
        let mut answers = Vec::new();
        for event in self.events.drain() {
            match event {
                MachineEvent::Parked { vcpu } => answers.extend(session.parked(vcpu)),
                MachineEvent::Panicked => session.panicked(),
                MachineEvent::Ended(cause) => return Some(session.judge(cause)),
            }
        }
        let overdue = session.overdue();
        self.answer(answers);
        overdue
    }

    fn handle_requests(&mut self) -> Option<EndCause> {
        let requests = lock(&self.control.as_ref()?.server).take_requests();
        for (connection, request) in requests {
            let waiter = Waiter {
                connection,
                request: request.id,
            };
            let (answers, end) = self.handle(waiter, request);
            self.answer(answers);
            if end.is_some() {
                return end;
            }
        }
        None
    }

    fn handle(&mut self, waiter: Waiter, request: Request) -> (Vec<Answer<Waiter>>, Option<EndCause>) {
        let now = |outcome| (vec![(waiter, outcome)], None);
        let refuse = |text: &str| now(Outcome::Failed(text.to_owned()));
        if request.version != vmm_proto::VERSION {
            let (theirs, ours) = (request.version, vmm_proto::VERSION);
            return refuse(&format!(
                "protocol version {theirs} is not {ours}, which this process speaks"
            ));
        }
        match (request.command, &mut self.session) {
            (Command::Start(_), Some(_)) => refuse("this process has started its VM already"),
            (Command::Start(config), None) => match self.build(&config, None) {
                Ok(()) => now(Outcome::Done),
                Err(error) => refuse(&ErrorChain(&error).to_string()),
            },
            (Command::Pause, Some(session)) => (session.pause(waiter), None),
            (Command::Resume, Some(session)) => (session.resume(waiter), None),
            (Command::Pause | Command::Resume, None) => refuse("no VM has been started"),
            (Command::Stats, session) => now(Outcome::Stats(Session::stats(session.as_ref()))),
            (Command::Stop, _) => (vec![(waiter, Outcome::Done)], Some(EndCause::Stopped)),
        }
    }

    fn build(
        &mut self,
        config: &VmConfig,
        mirror: Option<io::Stdout>,
    ) -> Result<(), crate::machine::MachineError> {
        let session = Session::start(config, &self.sender, mirror)?;
        for device in session.devices() {
            self.manager.add_subscriber(device.subscriber());
        }
        self.session = Some(session);
        Ok(())
    }

    fn answer(&mut self, answers: Vec<Answer<Waiter>>) {
        let Some(control) = &self.control else { return };
        for (waiter, outcome) in answers {
            let reply = FromVmm::Reply(Reply {
                id: waiter.request,
                outcome,
            });
            match self.manager.event_ops(control.id) {
                Ok(mut ops) => lock(&control.server).send(waiter.connection, &reply, &mut ops),
                Err(error) => log::line(format_args!("lost a reply: {error}")),
            }
        }
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

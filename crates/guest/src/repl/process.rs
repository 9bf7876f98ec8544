//! One Python process and the sockets to it.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use rustix::process::Signal;
use thiserror::Error;

use super::preload;
use super::reseed::{ReseedError, Reseeding};
use super::wire::{ANSWER_BYTES, Answer, DRIVER, Kind, START_NUMBER, bootstrap, request};
use crate::children::{Child, Children, Ended};
use crate::poll;
use crate::processes::{Tick, signal_started};
use crate::services::Config;

/// From the start of Python to the end of the template's imports: those of `python-datasci` take 60 s on an emulated
/// processor that is otherwise idle.
pub(super) const START_WAIT: Duration = Duration::from_secs(240);
/// An idle driver that takes nothing for this long hangs: some thread of it keeps the interpreter lock.
const SEND_WAIT: Duration = Duration::from_secs(10);

/// Why there is no new process.
#[derive(Debug, Error)]
pub(crate) enum StartProcessError {
    #[error("cannot make the control sockets")]
    Sockets(#[source] io::Error),
    #[error("cannot execute {python}")]
    Spawn { python: String, source: io::Error },
    #[error("the driver cannot be sent")]
    Driver(#[source] io::Error),
    #[error("it ended while starting ({0})")]
    Ended(Ended),
    #[error("it was not ready within {} s", START_WAIT.as_secs())]
    NotInTime,
    #[error("an import of the template failed; its traceback is on the console")]
    Imports,
}

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    control: UnixStream,
    reseeding: Reseeding,
    /// Not to be given work any more: it has ended, or is about to.
    abandoned: AtomicBool,
}

impl Process {
    /// Starts Python and waits until it is warm.
    pub(super) fn start(children: &Arc<Children>, config: &Config) -> Result<Self, StartProcessError> {
        let (control, theirs) = UnixStream::pair().map_err(StartProcessError::Sockets)?;
        let (acknowledgements, their_acknowledgements) =
            UnixStream::pair().map_err(StartProcessError::Sockets)?;
        control
            .set_write_timeout(Some(SEND_WAIT))
            .map_err(StartProcessError::Sockets)?;

        let mut command = config.command(&config.python);
        command
            .args(["-c", &bootstrap()])
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // Until it is ready, what goes wrong is to be seen on the console.
            .stderr(Stdio::inherit());
        let child = children
            .spawn(&mut command)
            .map_err(|source| StartProcessError::Spawn {
                python: config.python.display().to_string(),
                source,
            })?;
        // Keeps a second copy of the driver's end of the control socket otherwise.
        drop(command);
        let process = Self {
            child,
            control,
            reseeding: Reseeding::new(acknowledgements),
            abandoned: AtomicBool::new(false),
        };
        process
            .prepare(config, &their_acknowledgements)
            .inspect_err(|_| process.kill())?;
        Ok(process)
    }

    fn prepare(&self, config: &Config, acknowledgements: &UnixStream) -> Result<(), StartProcessError> {
        (&self.control)
            .write_all(DRIVER.as_bytes())
            .and_then(|()| {
                self.send(
                    START_NUMBER,
                    Kind::Start,
                    &preload::code(config),
                    &[acknowledgements.as_fd()],
                )
            })
            .map_err(StartProcessError::Driver)?;
        let deadline = Instant::now() + START_WAIT;
        loop {
            match self.answer() {
                Some(Answer {
                    number: START_NUMBER,
                    code: 0,
                }) => return Ok(()),
                Some(_) => return Err(StartProcessError::Imports),
                None if self.has_ended() => return Err(StartProcessError::Ended(self.child.wait())),
                None if Instant::now() >= deadline => return Err(StartProcessError::NotInTime),
                None => {
                    let mut fds = self
                        .watched()
                        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
                    poll::wait(&mut fds, Some(deadline)).map_err(StartProcessError::Driver)?;
                }
            }
        }
    }

    /// Starts a run with the given descriptors as its stdout and stderr.
    pub(super) fn send_run(
        &self,
        number: u32,
        kind: Kind,
        code: &str,
        streams: [&OwnedFd; 2],
    ) -> io::Result<()> {
        self.send(number, kind, code, &streams.map(OwnedFd::as_fd))
    }

    /// One message; almost always one system call.
    fn send(&self, number: u32, kind: Kind, payload: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let header = request(payload.len(), number, kind);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        let parts = [IoSlice::new(&header), IoSlice::new(payload.as_bytes())];
        let sent = loop {
            match sendmsg(&self.control, &parts, &mut ancillary, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        let mut control = &self.control;
        match sent.checked_sub(header.len()) {
            Some(sent) => control.write_all(&payload.as_bytes()[sent..]),
            None => {
                control.write_all(&header[sent..])?;
                control.write_all(payload.as_bytes())
            }
        }
    }

    /// The answer that has arrived, if any.
    pub(super) fn answer(&self) -> Option<Answer> {
        let mut bytes = [0; ANSWER_BYTES];
        // The driver sends answers in one piece; a shorter one is user code playing with its descriptor.
        match recv(&self.control, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((_, ANSWER_BYTES)) => Some(Answer::decode(bytes)),
            Ok((_, 0)) | Err(_) => None,
            Ok(_) => {
                self.kill();
                None
            }
        }
    }

    /// Ready when there is an answer, or the process has ended.
    pub(super) fn watched(&self) -> [BorrowedFd<'_>; 2] {
        [self.control.as_fd(), self.child.as_fd()]
    }

    pub(super) fn has_ended(&self) -> bool {
        poll::ready_now(&self.child, PollFlags::IN).is_ok_and(|ready| !ready.is_empty())
    }

    /// Whether the driver has let go of its control socket, without which it is of no use.
    pub(super) fn is_deaf(&self) -> bool {
        poll::ready_now(&self.control, PollFlags::IN).is_ok_and(|ready| ready.contains(PollFlags::HUP))
    }

    /// Makes it draw new randomness from the kernel, which must be fresh.
    pub(super) fn reseed(&self, deadline: Instant) -> Result<(), ReseedError> {
        self.reseeding.ask(&self.child, deadline)
    }

    /// Whether it has drawn new randomness each time it was asked to; waits for a moment if it has not yet.
    pub(super) fn is_reseeded(&self) -> bool {
        self.reseeding.is_settled(&self.child)
    }

    pub(super) fn interrupt(&self, started: Tick) {
        self.child.signal(Signal::INT);
        signal_started(self.child.pid(), started, Signal::INT);
    }

    pub(super) fn kill_children(&self, started: Tick) {
        signal_started(self.child.pid(), started, Signal::KILL);
        self.child.signal(Signal::INT);
    }

    pub(super) fn kill(&self) {
        self.child.signal(Signal::KILL);
    }

    pub(super) fn wait(&self) -> Ended {
        self.child.wait()
    }

    /// Makes sure that it ends, and that nobody is given it again.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.kill();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }
}

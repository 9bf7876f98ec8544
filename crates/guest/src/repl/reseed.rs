//! Makes Python draw new randomness after a clone, also in the middle of a run.
//!
//! ```text
//!  agent                                    driver
//!    │ number ──► socket                      │
//!    │ signal ──► C-level handler: noted      │   at once, whatever Python is doing
//!    │                                        ▼   before it goes on with Python code
//!    │                            reads the number, draws, runs callbacks
//!    │ ◄── number, outcome ────────────────── │
//! ```
//!
//! The number is in the socket only once the kernel's randomness is fresh, so an answer that carries it cannot come
//! from a drawing before that, however many machines this one was cloned from in between.
//!
//! CPython handles signals between two steps of Python code, in its main thread: not while that is in C code that does
//! not return, like a long computation of numpy. A machine must be clonable then too. So if no answer comes in good time,
//! but the kernel says that the signal has been delivered, the process counts as **pending**: CPython will call the
//! handler when the C code returns. (Where that was an operator and not a call, one more call of a C function may come
//! first.) The process is given no new run before it has answered; one that does not is replaced. What goes past Python's
//! own generators (`uuid4`, `secrets`, `os.urandom`) reads the kernel's and needs none of this.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::process::Signal;
use thiserror::Error;

use crate::children::Child;
use crate::poll;
use crate::processes::has_taken;

/// Tells the driver to draw new randomness; see there.
const RESEED_SIGNAL: Signal = Signal::STKFLT;
/// An answer takes milliseconds when Python gets to run Python code, in a slow machine some dozens.
const PATIENCE: Duration = Duration::from_millis(500);
/// After which time it is signalled again, then after twice that, and so on. A signal that comes when Python has looked for
/// signals and not yet begun to wait for its next request is noted and not acted on; the next one ends the wait. Machines
/// are cloned at just that point when a fork follows a run.
const NUDGE_AFTER: Duration = Duration::from_millis(5);
/// How long a process that is to begin a run may take to answer what it was asked before.
const SETTLE_WAIT: Duration = Duration::from_secs(5);

/// Why it is not known that the process draws from new randomness.
#[derive(Debug, Error)]
pub(crate) enum ReseedError {
    #[error("the Python process ended")]
    Ended,
    #[error("Python could not draw new randomness: a callback given to os.register_at_fork failed, it seems")]
    Refused,
    #[error("Python did not acknowledge in time")]
    NotInTime,
    #[error("cannot talk to Python")]
    Io(#[from] io::Error),
}

/// The conversation with one process.
#[derive(Debug)]
pub(super) struct Reseeding(Mutex<State>);

#[derive(Debug)]
struct State {
    socket: UnixStream,
    /// Number of the last request; wraps around.
    asked: u8,
    pending: bool,
}

impl Reseeding {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self(Mutex::new(State {
            socket,
            asked: 0,
            pending: false,
        }))
    }

    /// Asks, and waits for the answer or the certainty that it will come before Python goes on.
    pub(super) fn ask(&self, child: &Child, deadline: Instant) -> Result<(), ReseedError> {
        let mut state = self.lock();
        state.asked = state.asked.wrapping_add(1);
        // Until the answer is there, and also when this fails.
        state.pending = true;
        // Refused only when the other end is gone, and with it the process or its use.
        (&state.socket)
            .write_all(&[state.asked])
            .map_err(|_| ReseedError::Ended)?;
        child.signal(RESEED_SIGNAL);
        let patience = Instant::now() + PATIENCE;
        match state.wait(child, patience.min(deadline)) {
            Err(ReseedError::NotInTime) if has_taken(child.pid(), RESEED_SIGNAL) => Ok(()),
            Err(ReseedError::NotInTime) => state.wait(child, deadline),
            result => result,
        }
    }

    /// Whether all that was asked has been answered; waits for a moment if it has not.
    pub(super) fn is_settled(&self, child: &Child) -> bool {
        let mut state = self.lock();
        !state.pending || state.wait(child, Instant::now() + SETTLE_WAIT).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Waits for the answer to the last request.
    fn wait(&mut self, child: &Child, deadline: Instant) -> Result<(), ReseedError> {
        let mut patience = NUDGE_AFTER;
        let mut nudge = Instant::now() + patience;
        loop {
            let mut answer = [0; 2];
            match recv(&self.socket, &mut answer, RecvFlags::DONTWAIT) {
                // Answers to earlier requests come first, if at all.
                Ok((2, _)) if answer[0] != self.asked => continue,
                Ok((2, _)) if answer[1] == 1 => {
                    self.pending = false;
                    return Ok(());
                }
                Ok((2, _)) => return Err(ReseedError::Refused),
                Ok(_) => return Err(ReseedError::Ended),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(ReseedError::NotInTime);
            }
            if now >= nudge {
                child.signal(RESEED_SIGNAL);
                patience *= 2;
                nudge = now + patience;
            }
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(child, PollFlags::IN),
            ];
            poll::wait(&mut fds, Some(deadline.min(nudge)))?;
            if fds[0].revents().is_empty() && !fds[1].revents().is_empty() {
                return Err(ReseedError::Ended);
            }
        }
    }
}

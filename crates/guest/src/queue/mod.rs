//! The queue before the sandbox's one run at a time.
//!
//! Who is next is decided by [`line::Line`], a plain type without locks. Here a thread waits for its turn while it
//! also watches its connection, because a host that goes away leaves the line at once. So does one that a clone of the
//! machine has lost: a run that has not begun is carried out once, in the machine whose host asked for it.

mod line;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use thiserror::Error;

use crate::poll;
use line::{Line, Place, Ticket};

/// Runs that may wait at once.
pub(crate) const WAITING_MAX: usize = 128;

/// Why there is no turn.
#[derive(Debug, Error)]
pub(crate) enum QueueError {
    #[error("{WAITING_MAX} runs are waiting already")]
    Full,
    #[error("the host went away while its run was waiting")]
    Gone,
    #[error("cannot wait for a turn")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    line: Line,
    /// Rung when its ticket's turn has come.
    bells: HashMap<Ticket, Arc<OwnedFd>>,
}

/// The right to run, or a place in the line; dropping it lets the next one go.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    queue: &'a Queue,
    ticket: Ticket,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                line: Line::new(WAITING_MAX),
                bells: HashMap::new(),
            }),
        }
    }

    /// Waits for a turn for as long as `connection` stays open and silent.
    pub(crate) fn turn(&self, connection: &impl AsFd) -> Result<Turn<'_>, QueueError> {
        let (turn, bell) = self.enter()?;
        if let Some(bell) = bell {
            let mut fds = [
                PollFd::new(&*bell, PollFlags::IN),
                PollFd::new(connection, PollFlags::IN | PollFlags::RDHUP),
            ];
            poll::wait(&mut fds, None)?;
            while fds.iter().all(|fd| fd.revents().is_empty()) {
                poll::wait(&mut fds, None)?;
            }
            if !fds[1].revents().is_empty() {
                return Err(QueueError::Gone);
            }
        }
        Ok(turn)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().line.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Result<(Turn<'_>, Option<Arc<OwnedFd>>), QueueError> {
        let mut state = self.lock();
        let (ticket, place) = state.line.enter().ok_or(QueueError::Full)?;
        let turn = Turn { queue: self, ticket };
        if place == Place::First {
            return Ok((turn, None));
        }
        match eventfd(0, EventfdFlags::CLOEXEC) {
            Ok(bell) => {
                let bell = Arc::new(bell);
                state.bells.insert(ticket, Arc::clone(&bell));
                Ok((turn, Some(bell)))
            }
            Err(error) => {
                // The turn leaves the line when it is dropped, which takes the lock.
                drop(state);
                Err(io::Error::from(error).into())
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.bells.remove(&self.ticket);
        if let Some(next) = state.line.leave(self.ticket)
            && let Some(bell) = state.bells.get(&next)
        {
            // An eventfd refuses a write only near 2^64.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }
}

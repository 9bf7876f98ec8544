//! Runs that go on without a host, because the machine they run on has been cloned.
//!
//! ```text
//!  the machine is cloned                                  Follow
//!  run ─► connection ─► host      becomes      run ─► kept ─────► another connection ─► host
//! ```
//!
//! In the clone the transport resets every connection: their other ends belong to the machine it was cloned from. The
//! run that was in progress goes on there as it does here, but here nobody listens. So its output from that moment on
//! is kept, as much as fits, until somebody follows it. A follower slows the run as any host does; without one the
//! oldest output goes. What the connection had taken before the clone is the other machine's.
//!
//! There is one run at a time, so there is one that is carried on; it is forgotten when the next run begins after its
//! end. A run that has ended and whose host has not taken all of it yet is carried on like one in progress, unless
//! the next one has begun.

mod follow;
mod kept;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_proto::{Carried as Beginning, FailureCode, Reply};
use rustix::event::{EventfdFlags, eventfd};

use crate::services::failed;
pub(crate) use follow::follow;
use kept::{Channel, Found, Kept};

/// A follower that is behind by more than this, in bytes, makes the run wait. Less than is kept, so a follower never
/// misses what was written while it follows.
const BEHIND_MAX: u64 = 256 * 1024;

/// How long a follower waits for the thread of a run in progress to notice that the machine has been cloned. That
/// thread was woken before the follower's connection was made.
const NOTICE_WAIT: Duration = Duration::from_secs(2);

/// Where the run that is carried on can be found.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    runs: Mutex<Runs>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Runs {
    /// Runs begun so far; numbers the last of them.
    begun: u64,
    /// Of these, the ones whose connections have a host that has not got everything.
    hosted: usize,
    carried: Option<Arc<CarriedRun>>,
}

/// A run that is being sent to a host.
#[derive(Debug)]
pub(crate) struct Hosted {
    registry: Arc<Carried>,
    number: u64,
}

/// One run without a host.
#[derive(Debug)]
pub(crate) struct CarriedRun {
    beginning: Beginning,
    state: Mutex<State>,
    /// Rung when there is something new for the follower.
    news: OwnedFd,
    /// Rung when the follower has caught up or is gone, for the run.
    room: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    /// The last reply, once the run has ended.
    end: Option<Reply>,
    /// How far the follower has read, while there is one.
    follower: Option<u64>,
}

/// Reads a carried run; there is one at a time.
#[derive(Debug)]
pub(crate) struct Follower {
    run: Arc<CarriedRun>,
}

/// What comes next for a follower.
#[derive(Debug)]
pub(crate) enum Next {
    Reply(Reply),
    /// Nothing comes after this.
    Last(Reply),
    /// Wait for [`Follower::as_fd`].
    Nothing,
}

impl Carried {
    /// A run begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Hosted {
        let mut runs = self.lock();
        runs.carried.take_if(|run| run.lock().end.is_some());
        runs.begun += 1;
        runs.hosted += 1;
        Hosted {
            registry: Arc::clone(self),
            number: runs.begun,
        }
    }

    /// The run that has been carried on.
    pub(crate) fn run(&self) -> Option<Arc<CarriedRun>> {
        let unnoticed = |runs: &mut Runs| runs.carried.is_none() && runs.hosted > 0;
        let (runs, _) = self
            .changed
            .wait_timeout_while(self.lock(), NOTICE_WAIT, unnoticed)
            .unwrap_or_else(PoisonError::into_inner);
        runs.carried.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosted {
    /// The machine has been cloned: a place for the run to go on in from here. `None` when it has ended and another has
    /// begun.
    pub(crate) fn carry(self, beginning: Beginning) -> io::Result<Option<Arc<CarriedRun>>> {
        let mut runs = self.registry.lock();
        if runs.begun != self.number {
            return Ok(None);
        }
        let run = Arc::new(CarriedRun {
            beginning,
            state: Mutex::default(),
            news: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            room: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        runs.carried = Some(Arc::clone(&run));
        Ok(Some(run))
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.registry.lock().hosted -= 1;
        self.registry.changed.notify_all();
    }
}

impl CarriedRun {
    /// Takes a reply of the run; one that is not output is its last.
    pub(crate) fn take(&self, reply: &Reply) {
        let mut state = self.lock();
        match reply {
            Reply::Stdout(bytes) => state.kept.push(Channel::Stdout, bytes),
            Reply::Stderr(bytes) => state.kept.push(Channel::Stderr, bytes),
            end => state.end = Some(end.clone()),
        }
        if state.follower.is_some() {
            ring(&self.news);
        }
    }

    /// Whether more output may be taken without a follower losing some.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state
            .follower
            .is_none_or(|position| state.kept.end() - position <= BEHIND_MAX)
    }

    /// Readable when there may be room again.
    pub(crate) fn room(&self) -> BorrowedFd<'_> {
        self.room.as_fd()
    }

    pub(crate) fn heard_of_room(&self) {
        silence(&self.room);
    }

    /// The run is over, whether or not it has said how.
    pub(crate) fn conclude(&self) {
        let ended = self.lock().end.is_some();
        if !ended {
            let message = "the run could not be carried on".to_owned();
            self.take(&failed(FailureCode::Internal, message));
        }
    }

    /// `None` while somebody else follows.
    pub(crate) fn follow(self: &Arc<Self>) -> Option<Follower> {
        let mut state = self.lock();
        if state.follower.is_some() {
            return None;
        }
        state.follower = Some(0);
        Some(Follower {
            run: Arc::clone(self),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    pub(crate) fn beginning(&self) -> Beginning {
        self.run.beginning
    }

    pub(crate) fn next(&mut self) -> Next {
        let mut state = self.run.lock();
        let mut position = state.follower.unwrap_or(0);
        let next = match state.kept.read(&mut position) {
            Found::Dropped(bytes) => Next::Reply(Reply::Dropped { bytes }),
            Found::Output(channel, bytes) => Next::Reply(channel.reply(bytes)),
            Found::Nothing => match &state.end {
                Some(end) => Next::Last(end.clone()),
                None => Next::Nothing,
            },
        };
        state.follower = Some(position);
        ring(&self.run.room);
        next
    }

    pub(crate) fn heard_of_news(&self) {
        silence(&self.run.news);
    }
}

impl AsFd for Follower {
    /// Readable when there is something new.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.run.news.as_fd()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.run.lock().follower = None;
        ring(&self.run.room);
    }
}

fn ring(bell: &OwnedFd) {
    // An eventfd refuses a write only near 2^64, and then it is rung already.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn silence(bell: &OwnedFd) {
    let _ = rustix::io::read(bell, &mut [0; 8]);
}

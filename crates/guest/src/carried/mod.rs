//! Runs that go on without a host: the machine they run on has been cloned, or the host itself is gone.
//!
//! ```text
//!  the machine is cloned, or                              Follow, or
//!  the connection ends without Cancel                     Resume
//!  run ─► connection ─► host      becomes      run ─► kept ─────► another connection ─► host
//! ```
//!
//! In a clone the transport resets every connection: their other ends belong to the machine it was cloned from. The
//! run that was in progress goes on there as it does here, but here nobody listens. A host that is killed closes its
//! connections without a word, and another one will come. In both cases the run's output is kept, as much as fits, until
//! somebody follows it. A follower slows the run as any host does; without one the oldest output goes.
//!
//! What the connection had taken before a clone is the other machine's. What it had taken before a host was killed may or
//! may not have reached that host, so the newest output is kept from the run's first byte on, sent or not, and the next
//! host says how far the one before it has come.
//!
//! There is one run at a time, so there is one that is carried on; it is forgotten when the next run begins after its
//! end. A run that has ended and whose host has not taken all of it yet is carried on like one in progress, unless
//! the next one has begun. One that was sent to its end is kept as long.

mod follow;
mod kept;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_proto::{Carried as Beginning, FailureCode, Reply, Resume, Resumed};
use rustix::event::{EventfdFlags, eventfd};

use crate::services::failed;
pub(crate) use follow::follow;
use kept::{Amounts, Channel, Found, Kept};

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
    /// The last run, when all of it was sent.
    sent: Option<(u64, Record)>,
}

/// A run that is being sent to a host.
#[derive(Debug)]
pub(crate) struct Hosted {
    registry: Arc<Carried>,
    number: u64,
    /// As the host calls it.
    name: u64,
    record: Record,
}

/// What a run has said.
#[derive(Debug, Default)]
struct Record {
    kept: Kept,
    /// The last reply, once the run has ended.
    end: Option<Reply>,
}

/// One run without a host.
#[derive(Debug)]
pub(crate) struct CarriedRun {
    name: u64,
    /// What its connection had taken.
    beginning: Beginning,
    state: Mutex<State>,
    /// Rung when there is something new for the follower.
    news: OwnedFd,
    /// Rung when the follower has caught up or is gone, for the run.
    room: OwnedFd,
}

#[derive(Debug)]
struct State {
    record: Record,
    /// How far the follower has read, while there is one.
    follower: Option<u64>,
}

/// Reads a carried run; there is one at a time.
#[derive(Debug)]
pub(crate) struct Follower {
    run: Arc<CarriedRun>,
    /// Where it begins.
    from: Amounts,
    /// Bytes before that, which are skipped, and bytes after it that are not kept.
    skipped: Amounts,
    missing: u64,
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

/// Why a run cannot be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfollowed {
    /// There is none that its host has not got.
    None,
    /// Somebody else does it.
    Busy,
}

impl Carried {
    /// A run begins, of that name.
    pub(crate) fn begin(self: &Arc<Self>, name: u64) -> Hosted {
        let mut runs = self.lock();
        runs.carried.take_if(|run| run.lock().record.end.is_some());
        runs.sent = None;
        runs.begun += 1;
        runs.hosted += 1;
        Hosted {
            registry: Arc::clone(self),
            number: runs.begun,
            name,
            record: Record::default(),
        }
    }

    /// Follows the run that this machine, being a clone, has carried on.
    pub(crate) fn follow(&self) -> Result<Follower, Unfollowed> {
        let run = self.noticed().carried.clone().ok_or(Unfollowed::None)?;
        let from = Amounts {
            stdout: run.beginning.stdout_bytes,
            stderr: run.beginning.stderr_bytes,
        };
        run.follow(from)
    }

    /// Follows the last run from where a host that is gone had come to.
    pub(crate) fn resume(&self, known: &Resume) -> Result<Follower, Unfollowed> {
        let mut runs = self.noticed();
        let run = match (runs.carried.clone(), runs.sent.take()) {
            (Some(run), _) => run,
            (None, Some((name, record))) => {
                let run = CarriedRun::new(name, Beginning::default(), record);
                let run = Arc::new(run.map_err(|_| Unfollowed::None)?);
                runs.carried = Some(Arc::clone(&run));
                run
            }
            (None, None) if runs.hosted > 0 => return Err(Unfollowed::Busy),
            (None, None) => return Err(Unfollowed::None),
        };
        drop(runs);
        let is_known = run.name == known.run;
        if run.name == 0 || (is_known && known.ended) {
            return Err(Unfollowed::None);
        }
        let got = Amounts {
            stdout: known.stdout_bytes,
            stderr: known.stderr_bytes,
        };
        run.follow(if is_known { got } else { Amounts::default() })
    }

    /// What there is once every run that has lost its host is here.
    fn noticed(&self) -> MutexGuard<'_, Runs> {
        let unnoticed = |runs: &mut Runs| runs.carried.is_none() && runs.hosted > 0;
        let (runs, _) = self
            .changed
            .wait_timeout_while(self.lock(), NOTICE_WAIT, unnoticed)
            .unwrap_or_else(PoisonError::into_inner);
        runs
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosted {
    /// Notes a reply that goes to the host.
    pub(crate) fn note(&mut self, reply: &Reply) {
        self.record.take(reply);
    }

    /// The host is not this machine's any more, or is gone: a place for the run to go on in from here. `None` when it has
    /// ended and another has begun.
    pub(crate) fn carry(mut self, beginning: Beginning) -> io::Result<Option<Arc<CarriedRun>>> {
        let record = std::mem::take(&mut self.record);
        let mut runs = self.registry.lock();
        if runs.begun != self.number {
            return Ok(None);
        }
        let run = Arc::new(CarriedRun::new(self.name, beginning, record)?);
        runs.carried = Some(Arc::clone(&run));
        Ok(Some(run))
    }

    /// All of it was sent. Whether it has arrived only the host can say.
    pub(crate) fn sent(mut self) {
        let record = std::mem::take(&mut self.record);
        let mut runs = self.registry.lock();
        if runs.begun == self.number && self.name != 0 {
            runs.sent = Some((self.name, record));
        }
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.registry.lock().hosted -= 1;
        self.registry.changed.notify_all();
    }
}

impl Record {
    /// Takes a reply of the run; one that is not output is its last.
    fn take(&mut self, reply: &Reply) {
        match reply {
            Reply::Stdout(bytes) => self.kept.push(Channel::Stdout, bytes),
            Reply::Stderr(bytes) => self.kept.push(Channel::Stderr, bytes),
            end => self.end = Some(end.clone()),
        }
    }
}

impl CarriedRun {
    fn new(name: u64, beginning: Beginning, record: Record) -> io::Result<Self> {
        let state = State {
            record,
            follower: None,
        };
        Ok(Self {
            name,
            beginning,
            state: Mutex::new(state),
            news: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            room: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Takes a reply of the run; one that is not output is its last.
    pub(crate) fn take(&self, reply: &Reply) {
        let mut state = self.lock();
        state.record.take(reply);
        if state.follower.is_some() {
            ring(&self.news);
        }
    }

    /// Whether more output may be taken without a follower losing some.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state
            .follower
            .is_none_or(|position| state.record.kept.end().saturating_sub(position) <= BEHIND_MAX)
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
        let ended = self.lock().record.end.is_some();
        if !ended {
            let message = "the run could not be carried on".to_owned();
            self.take(&failed(FailureCode::Internal, message));
        }
    }

    fn follow(self: &Arc<Self>, from: Amounts) -> Result<Follower, Unfollowed> {
        let mut state = self.lock();
        if state.follower.is_some() {
            return Err(Unfollowed::Busy);
        }
        let kept = &state.record.kept;
        let (start, starts) = (kept.start(), kept.starts());
        state.follower = Some(start);
        Ok(Follower {
            run: Arc::clone(self),
            from,
            skipped: Amounts {
                stdout: from.stdout.saturating_sub(starts.stdout),
                stderr: from.stderr.saturating_sub(starts.stderr),
            },
            missing: starts.stdout.saturating_sub(from.stdout) + starts.stderr.saturating_sub(from.stderr),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Where it begins, for [`Reply::Carried`].
    pub(crate) fn beginning(&self) -> Beginning {
        Beginning {
            run: self.run.name,
            stdout_bytes: self.from.stdout,
            stderr_bytes: self.from.stderr,
        }
    }

    /// The same for [`Reply::Resumed`].
    pub(crate) fn resumed(&self) -> Resumed {
        Resumed {
            run: self.run.name,
            stdout_bytes: self.from.stdout,
            stderr_bytes: self.from.stderr,
        }
    }

    pub(crate) fn next(&mut self) -> Next {
        let run = Arc::clone(&self.run);
        let mut state = run.lock();
        let mut position = state.follower.unwrap_or(0);
        let next = loop {
            if self.missing > 0 {
                let bytes = std::mem::take(&mut self.missing);
                break Next::Reply(Reply::Dropped { bytes });
            }
            match state.record.kept.read(&mut position) {
                Found::Dropped(bytes) => break Next::Reply(Reply::Dropped { bytes }),
                Found::Output(channel, mut bytes) => {
                    let skipped = self.skipped.of(channel);
                    let here = usize::try_from(*skipped).unwrap_or(usize::MAX).min(bytes.len());
                    *skipped -= here as u64;
                    bytes.drain(..here);
                    if !bytes.is_empty() {
                        break Next::Reply(channel.reply(bytes));
                    }
                }
                Found::Nothing => {
                    break match &state.record.end {
                        Some(end) => Next::Last(end.clone()),
                        None => Next::Nothing,
                    };
                }
            }
        };
        state.follower = Some(position);
        ring(&run.room);
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

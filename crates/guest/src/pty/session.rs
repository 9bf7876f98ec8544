//! One session as everybody sees it: its output, its input, its end.
//!
//! ```text
//!            input ──► pending ──► thread ──► master ══ slave ── program
//!  follower ◄── ring ◄───────────── of it ◄──┘
//! ```
//!
//! A session has one thread, which alone reads and writes the terminal. Whoever asks something of the session does it
//! under a lock held for a copy, and rings a bell. So nobody who reads slowly holds up the program or anybody else.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent_proto::{PtyName, PtySession, PtySize};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::Signal;
use thiserror::Error;

use super::ring::Ring;
use super::spawn;
use crate::children::Child;
use crate::processes::{Tick, signal_started};

/// Input that waits for the program to read, in bytes.
const PENDING_MAX: usize = 64 * 1024;
/// A program that reads none of its input for this long does not want any.
const INPUT_WAIT: Duration = Duration::from_secs(10);

/// Why input is not taken.
#[derive(Debug, Error)]
pub(super) enum InputError {
    #[error("the program has exited")]
    Exited,
    #[error(
        "the program has read none of its input for {} s; {taken} of {sent} bytes were taken", INPUT_WAIT.as_secs()
    )]
    NotRead { taken: usize, sent: usize },
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: PtyName,
    label: String,
    created_at_ms: u64,
    pub(super) child: Child,
    /// Processes of the session are not older.
    started: Tick,
    pub(super) master: OwnedFd,
    /// Rung for the thread: there is input.
    bell: OwnedFd,
    state: Mutex<State>,
    /// Tells of room for input, of followers that have read, and of the end.
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) ring: Ring,
    pub(super) pending: VecDeque<u8>,
    /// Somebody is in the middle of long input.
    writing: bool,
    pub(super) exit: Option<Exit>,
    followers: BTreeMap<u64, Reader>,
    followers_so_far: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Exit {
    pub(super) code: i32,
    pub(super) at: Instant,
}

#[derive(Debug)]
struct Reader {
    bell: Arc<OwnedFd>,
    /// Number of the next byte for it.
    next: u64,
}

/// Reads a session's output at its own pace; readable when there may be something new.
#[derive(Debug)]
pub(super) struct Follower {
    session: Arc<Session>,
    number: u64,
    bell: Arc<OwnedFd>,
}

/// What a follower finds.
#[derive(Debug)]
pub(super) enum News {
    Output {
        seq: u64,
        bytes: Vec<u8>,
    },
    Exit(i32),
    /// Wait for the follower's descriptor.
    Nothing,
}

/// What a session is made of.
pub(super) struct Parts {
    pub(super) name: PtyName,
    pub(super) label: String,
    pub(super) created_at_ms: u64,
    pub(super) child: Child,
    pub(super) started: Tick,
    pub(super) master: OwnedFd,
}

impl Session {
    pub(super) fn new(parts: Parts) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            name: parts.name,
            label: parts.label,
            created_at_ms: parts.created_at_ms,
            child: parts.child,
            started: parts.started,
            master: parts.master,
            bell: bell()?,
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    pub(super) fn describe(&self) -> PtySession {
        PtySession {
            name: self.name,
            label: self.label.clone(),
            created_at_ms: self.created_at_ms,
            exit_code: self.exit().map(|exit| exit.code),
        }
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        self.lock().exit
    }

    /// Takes all of the bytes, as fast as the program reads; those of one call stay together.
    pub(super) fn input(&self, bytes: &[u8]) -> Result<(), InputError> {
        let mut deadline = Instant::now() + INPUT_WAIT;
        let mut rest = bytes;
        let mut state = self.lock();
        let mut is_ours = false;
        while !rest.is_empty() {
            if state.exit.is_some() {
                return Err(InputError::Exited);
            }
            let room = PENDING_MAX - state.pending.len();
            if room > 0 && (is_ours || !state.writing) {
                let (now, later) = rest.split_at(rest.len().min(room));
                state.pending.extend(now);
                rest = later;
                is_ours = true;
                state.writing = !rest.is_empty();
                deadline = Instant::now() + INPUT_WAIT;
                ring(&self.bell);
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.writing &= !is_ours;
                self.changed.notify_all();
                return Err(InputError::NotRead {
                    taken: bytes.len() - rest.len(),
                    sent: bytes.len(),
                });
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        // Whoever waits for its turn with long input.
        self.changed.notify_all();
        Ok(())
    }

    /// The kernel tells the program of it, with SIGWINCH.
    pub(super) fn resize(&self, size: PtySize) -> io::Result<()> {
        spawn::resize(&self.master, size)
    }

    /// Ends the program, its process group, and what else is in its session or descends from it.
    pub(super) fn kill(&self) {
        if self.exit().is_some() {
            return;
        }
        // So that it can neither exit of its own accord when it sees the others die, nor start new ones.
        self.child.signal(Signal::STOP);
        // Twice, because what is found first may start others before it dies.
        for _ in 0..2 {
            signal_started(self.child.pid(), self.started, Signal::KILL);
        }
        self.child.signal(Signal::KILL);
    }

    /// Somebody begins to read, from byte `since` on.
    pub(super) fn follow(self: &Arc<Self>, since: u64) -> io::Result<Follower> {
        let bell = Arc::new(bell()?);
        let mut state = self.lock();
        state.followers_so_far += 1;
        let number = state.followers_so_far;
        let reader = Reader {
            bell: Arc::clone(&bell),
            next: since,
        };
        state.followers.insert(number, reader);
        drop(state);
        Ok(Follower {
            session: Arc::clone(self),
            number,
            bell,
        })
    }

    /// Works on the state and tells everybody: the thread's way to it.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = work(&mut state);
        for reader in state.followers.values() {
            ring(&reader.bell);
        }
        drop(state);
        self.changed.notify_all();
        result
    }

    /// Waits until no follower is behind by more than `bytes`, but not for long.
    pub(super) fn wait_for_followers(&self, bytes: u64, patience: Duration) {
        let is_behind = |state: &mut State| {
            let end = state.ring.end();
            state
                .followers
                .values()
                .any(|reader| end.saturating_sub(reader.next) > bytes)
        };
        drop(self.changed.wait_timeout_while(self.lock(), patience, is_behind));
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.lock().pending.is_empty()
    }

    /// Readable when there is input for the program.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn position(&self, follower: u64) -> u64 {
        self.followers.get(&follower).map_or(0, |reader| reader.next)
    }
}

impl Follower {
    /// At most `max` bytes of output that have not been read yet.
    pub(super) fn next(&mut self, max: usize) -> News {
        // Before looking: what comes after is announced again.
        silence(&self.bell);
        let mut state = self.session.lock();
        let State {
            ring,
            followers,
            exit,
            ..
        } = &mut *state;
        let Some(reader) = followers.get_mut(&self.number) else {
            return News::Nothing;
        };
        let (seq, bytes) = ring.read(reader.next, max);
        reader.next = seq + bytes.len() as u64;
        let news = match exit {
            _ if !bytes.is_empty() => News::Output { seq, bytes },
            Some(exit) => News::Exit(exit.code),
            None => News::Nothing,
        };
        drop(state);
        self.session.changed.notify_all();
        news
    }

    /// Number of the next byte for it.
    pub(super) fn position(&self) -> u64 {
        self.session.lock().position(self.number)
    }

    /// The exit code, once there is one and all output has been read.
    pub(super) fn exit_when_read(&self) -> Option<i32> {
        let state = self.session.lock();
        let is_read = state.position(self.number) == state.ring.end();
        state.exit.filter(|_| is_read).map(|exit| exit.code)
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.session.lock().followers.remove(&self.number);
        self.session.changed.notify_all();
    }
}

fn bell() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

fn ring(bell: &OwnedFd) {
    // An eventfd refuses a write only near 2^64, and then it is rung already.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

pub(super) fn silence(bell: &impl AsFd) {
    let _ = rustix::io::read(bell, &mut [0; 8]);
}

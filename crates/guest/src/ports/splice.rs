//! Bytes between two streams, each direction on its own, until both have ended.
//!
//! What comes from one side is read only when all that came before has been taken by the other, so whoever is slow holds
//! up only who sends to it. The end of one side's sending is passed on behind its last byte, and the other direction
//! goes on.
//!
//! A host that has gone for good is noticed while it is read from: its end comes, and then it takes nothing any more. While
//! it is not read from, because the program takes nothing or the host has ended its sending, it is looked after every
//! other second.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use crate::poll;

/// As much as one packet of the transport carries. Pages that nothing is written to are never touched.
const BUFFER_BYTES: usize = 64 * 1024;
/// How often a host that is not read from is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a program may take nothing of what a host that is gone has left.
const LEGACY_WAIT: Duration = Duration::from_secs(30);

/// One direction.
struct Way {
    buffer: Vec<u8>,
    /// What waits to be taken is from here …
    begin: usize,
    /// … to here.
    end: usize,
    stage: Stage,
    /// Bytes that were taken so far.
    taken: u64,
    /// Its source has failed, which is more than an end.
    is_broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Nothing more comes, and what waits is still to be taken.
    Ending,
    Over,
}

/// Moves bytes until there are no more. `first` came from the host before.
pub(super) fn splice<S: Read + Write + AsFd>(
    host: &mut S,
    first: Vec<u8>,
    program: &TcpStream,
) -> io::Result<()> {
    let mut program = program;
    let mut inward = Way::new(first);
    let mut outward = Way::new(Vec::new());
    // Since when the host is gone, or the program has last taken something after that.
    let mut orphaned: Option<Instant> = None;
    loop {
        let taken = inward.taken;
        inward.advance(host, &mut program);
        outward.advance(&mut program, host);
        if inward.is_broken && orphaned.is_none() {
            outward.drop_all();
            orphaned = Some(Instant::now());
        }
        if inward.is_over() && outward.is_over() {
            return Ok(());
        }
        if let Some(since) = &mut orphaned {
            if inward.taken != taken {
                *since = Instant::now();
            } else if since.elapsed() >= LEGACY_WAIT {
                return Ok(());
            }
        }
        let host_wanted = wanted(&inward, &outward);
        let deaf = !host_wanted.contains(PollFlags::IN);
        wait((host, host_wanted), (program, wanted(&outward, &inward)), deaf)?;
        if deaf && orphaned.is_none() && is_gone(host)? {
            outward.drop_all();
            orphaned = Some(Instant::now());
        }
    }
}

/// What to wait for at the end that `from` reads and `to` writes.
fn wanted(from: &Way, to: &Way) -> PollFlags {
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, from.wants_more());
    events.set(PollFlags::OUT, to.has_bytes());
    events
}

fn wait(host: (&impl AsFd, PollFlags), program: (&TcpStream, PollFlags), deaf: bool) -> io::Result<()> {
    // A descriptor nothing is wanted of is left out: that it has hung up would be told again and again.
    let mut fds = Vec::with_capacity(2);
    if !host.1.is_empty() {
        fds.push(PollFd::new(host.0, host.1));
    }
    if !program.1.is_empty() {
        fds.push(PollFd::new(program.0, program.1));
    }
    let deadline = deaf.then(|| Instant::now() + LOOK_EVERY);
    poll::wait(&mut fds, deadline)
}

/// Whether a host takes nothing any more. A Unix socket says so by hanging up, vsock by refusing even no bytes.
fn is_gone(host: &impl AsFd) -> io::Result<bool> {
    let signs = poll::ready_now(host, PollFlags::empty())?;
    if signs.intersects(PollFlags::HUP | PollFlags::ERR) {
        return Ok(true);
    }
    match send(host, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(_) => Ok(true),
    }
}

impl Way {
    fn new(first: Vec<u8>) -> Self {
        let end = first.len();
        let mut buffer = first;
        if buffer.len() < BUFFER_BYTES {
            let mut larger = vec![0; BUFFER_BYTES];
            larger[..end].copy_from_slice(&buffer);
            buffer = larger;
        }
        Self {
            buffer,
            begin: 0,
            end,
            stage: Stage::Open,
            taken: 0,
            is_broken: false,
        }
    }

    fn has_bytes(&self) -> bool {
        self.begin < self.end
    }

    fn wants_more(&self) -> bool {
        self.stage == Stage::Open && !self.has_bytes()
    }

    fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Nobody takes it.
    fn drop_all(&mut self) {
        self.begin = self.end;
        self.stage = Stage::Over;
    }

    /// Moves what can be moved now, one buffer at most.
    fn advance(&mut self, source: &mut impl Read, sink: &mut (impl Write + AsFd)) {
        if self.wants_more() {
            match source.read(&mut self.buffer) {
                Ok(0) => self.stage = Stage::Ending,
                Ok(count) => (self.begin, self.end) = (0, count),
                Err(error) if is_passing(&error) => {}
                // Reset: what came before is still passed on, and then the end.
                Err(_) => {
                    self.stage = Stage::Ending;
                    self.is_broken = true;
                }
            }
        }
        while self.has_bytes() {
            match sink.write(&self.buffer[self.begin..self.end]) {
                Ok(0) => return self.drop_all(),
                Ok(count) => {
                    self.begin += count;
                    self.taken += count as u64;
                }
                Err(error) if is_passing(&error) => return,
                // It takes nothing any more. What it has to say may still come.
                Err(_) => return self.drop_all(),
            }
        }
        if self.stage == Stage::Ending {
            self.stage = Stage::Over;
            // One that is shut down already is what is wanted.
            let _ = shutdown(&*sink, Shutdown::Write);
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

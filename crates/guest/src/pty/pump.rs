//! The thread of a session: bytes between the terminal and everybody else, from the program's start to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::session::{Exit, Session, silence};
use crate::poll;

/// Longest read, in bytes. A terminal gives at most some 4 KiB at once, a busy one many times over.
const READ_BYTES: usize = 16 * 1024;

/// A program that writes faster than those who follow it read is held up this long for each so many bytes while one of
/// them is this far behind. So whoever takes 2.5 MB a second misses nothing, and nobody holds it below that.
const PACE_BYTES: u64 = 64 * 1024;
const PACE_PATIENCE: Duration = Duration::from_millis(25);
const BEHIND_MAX: u64 = 256 * 1024;

/// How long output that is left at the end may take to be read; it is all there, so this only bounds a program that
/// has left others behind that write for ever.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// Serves the session until its program has exited. `slave` is closed then.
pub(super) fn pump(session: &Session, slave: OwnedFd) {
    let mut buffer = vec![0; READ_BYTES];
    let mut since_pause = 0;
    loop {
        let Ok(ready) = wait(session) else {
            // Without memory for a poll: a program is not left alone with a terminal that nobody serves.
            session.kill();
            break;
        };
        if ready.exited {
            break;
        }
        if ready.readable
            && let Ok(count @ 1..) = rustix::io::read(&session.master, &mut *buffer)
        {
            session.change(|state| state.ring.push(&buffer[..count]));
            since_pause += count as u64;
        }
        if ready.writable {
            write_some(session);
        }
        if since_pause >= PACE_BYTES {
            since_pause = 0;
            session.wait_for_followers(BEHIND_MAX, PACE_PATIENCE);
        }
    }
    // What is left in the session has lost its terminal with its leader, but may go on without one.
    drop(slave);
    let code = session.child.wait().code();
    let deadline = Instant::now() + LAST_OUTPUT_WAIT;
    while let Ok(count @ 1..) = rustix::io::read(&session.master, &mut *buffer) {
        session.change(|state| state.ring.push(&buffer[..count]));
        if Instant::now() >= deadline {
            break;
        }
    }
    session.change(|state| {
        state.pending.clear();
        state.pending.shrink_to_fit();
        state.exit = Some(Exit {
            code,
            at: Instant::now(),
        });
    });
}

/// What a poll has found.
struct Ready {
    readable: bool,
    writable: bool,
    exited: bool,
}

fn wait(session: &Session) -> io::Result<Ready> {
    let mut events = PollFlags::IN;
    events.set(PollFlags::OUT, session.has_pending());
    let bell = session.bell();
    let mut fds = [
        PollFd::new(&session.master, events),
        PollFd::new(&session.child, PollFlags::IN),
        PollFd::new(&bell, PollFlags::IN),
    ];
    poll::wait(&mut fds, None)?;
    let [terminal, child, input] = fds.map(|fd| fd.revents());
    if !input.is_empty() {
        silence(&bell);
    }
    Ok(Ready {
        readable: terminal.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
        writable: terminal.contains(PollFlags::OUT) || !input.is_empty(),
        exited: !child.is_empty(),
    })
}

/// Gives the program what its terminal takes of the input.
fn write_some(session: &Session) {
    session.change(|state| {
        while !state.pending.is_empty() {
            let (bytes, _) = state.pending.as_slices();
            match rustix::io::write(&session.master, bytes) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(count) => drop(state.pending.drain(..count)),
                Err(Errno::INTR) => {}
                // The terminal is gone, and its program with it or about to be.
                Err(_) => state.pending.clear(),
            }
        }
    });
}

//! Drives a run: output to the connection, and the run to its end.

use std::time::{Duration, Instant};

use agent_proto::{Exit, Reply};
use rustix::event::{PollFd, PollFlags};

use super::output::{Found, Output, Source};
use super::patience::{Patience, Step};
use super::{End, Job};
use crate::connection::{Connection, ConnectionError, Stream};
use crate::drain::Drain;
use crate::poll;

/// After output was sent, more is left to gather in the pipe for this long. Output that comes after a pause is sent at
/// once; a stream of single lines costs a thousand wake-ups a second, not a million.
const GATHER: Duration = Duration::from_millis(1);
/// Output of a run's first moments waits for its end for this long: most runs are over by then, and need one packet to
/// the host and two context switches here instead of twice as many. The dearest part of a short run in emulation.
const OPENING: Duration = Duration::from_millis(5);
/// Exit code of a run that took too long, as of timeout(1).
const TIMED_OUT: i32 = 124;

/// What bounds a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout_ms: Option<u64>,
}

struct Pump<'a, S> {
    connection: &'a mut Connection<S>,
    output: Output,
    job: &'a mut dyn Job,
    patience: Patience,
    /// When the run has to be over.
    timeout: Option<Instant>,
    timed_out: bool,
    host_gone: bool,
    gather_until: Option<Instant>,
}

/// What a poll has found.
#[derive(Default)]
struct Ready {
    stdout: bool,
    stderr: bool,
    job: bool,
    host_spoke: bool,
}

/// Runs to the end; what is left to send, `Exit` last, is then in the connection's outbox.
///
/// # Errors
/// When the connection is of no more use. The run has ended then too.
pub(crate) fn pump<S: Stream>(
    connection: &mut Connection<S>,
    output: Output,
    job: &mut dyn Job,
    limits: Limits,
    drain: &Drain,
) -> Result<(), ConnectionError> {
    let timeout = limits
        .timeout_ms
        .and_then(|timeout_ms| Instant::now().checked_add(Duration::from_millis(timeout_ms)));
    let host_gone = connection.has_surplus();
    let mut pump = Pump {
        connection,
        output,
        job,
        patience: Patience::default(),
        timeout,
        timed_out: false,
        host_gone,
        gather_until: Some(Instant::now() + OPENING),
    };
    let end = loop {
        if let Some(end) = pump.turn()? {
            break end;
        }
    };
    if pump.patience.was_asked() {
        // What the run left in the background goes with it: nobody is there to use it.
        pump.job.kill_children();
    }
    let Pump {
        connection,
        mut output,
        timed_out,
        host_gone,
        ..
    } = pump;
    if host_gone {
        output.leave(drain)?;
        return Err(ConnectionError::Closed);
    }
    output.move_rest(Some(connection))?;
    conclude(connection, end, timed_out.then_some(limits.timeout_ms).flatten())?;
    // The host waits for this, and for nothing that comes after it.
    let sent = connection.send_some();
    output.leave(drain)?;
    sent
}

/// Notes on stderr for what the run itself cannot know, then the exit code.
fn conclude<S: Stream>(
    connection: &mut Connection<S>,
    end: End,
    timed_out_ms: Option<u64>,
) -> Result<(), ConnectionError> {
    let mut code = match end {
        End::Code(code) => code,
        End::Lost(ended) => {
            let note = format!(
                "the Python process ended ({ended}); it has been restarted: variables are lost, files remain\n"
            );
            connection.push(&Reply::Stderr(note.into_bytes()))?;
            ended.code()
        }
    };
    if let Some(timeout_ms) = timed_out_ms {
        connection.push(&Reply::Stderr(
            format!("timed out after {timeout_ms} ms\n").into_bytes(),
        ))?;
        code = TIMED_OUT;
    }
    connection.push(&Reply::Exit(Exit { code }))
}

impl<S: Stream> Pump<'_, S> {
    fn turn(&mut self) -> Result<Option<End>, ConnectionError> {
        self.press();
        let ready = self.wait()?;
        if ready.host_spoke && self.connection.attend().is_err() {
            self.host_gone = true;
        }
        // Asked before the pipes are read: output from before the end is then surely in them.
        let end = if ready.job { self.job.ended() } else { None };
        if end.is_none() {
            self.move_output(&ready)?;
        }
        if !self.host_gone && end.is_none() && self.connection.send_some().is_err() {
            self.host_gone = true;
        }
        Ok(end)
    }

    /// Makes a run stop that shall not go on.
    fn press(&mut self) {
        let now = Instant::now();
        if self.timeout.is_some_and(|timeout| now >= timeout) {
            self.timeout = None;
            // A run is interrupted for one reason only: the first.
            self.timed_out = !self.host_gone;
        }
        let asked = if self.timed_out || self.host_gone {
            self.patience.ask(now)
        } else {
            None
        };
        for step in [asked, self.patience.due(now)].into_iter().flatten() {
            match step {
                Step::Interrupt => self.job.interrupt(),
                Step::KillChildren => self.job.kill_children(),
                Step::Kill => self.job.kill(),
            }
        }
    }

    fn wait(&mut self) -> Result<Ready, ConnectionError> {
        let now = Instant::now();
        self.gather_until = self.gather_until.filter(|until| now < *until);
        // While the host does not take what is there, the run's pipes fill up and the run waits: back-pressure.
        let reading = (self.host_gone || self.connection.is_flushed()) && self.gather_until.is_none();
        let deadline = [self.timeout, self.patience.deadline(), self.gather_until]
            .into_iter()
            .flatten()
            .min();

        let mut fds: [Option<PollFd<'_>>; 5] = Default::default();
        if reading {
            fds[0] = self
                .output
                .stdout()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            fds[1] = self
                .output
                .stderr()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (slot, fd) in fds[2..4].iter_mut().zip(self.job.watched()) {
            *slot = fd.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if !self.host_gone {
            fds[4] = self.connection.watch();
        }
        let present = fds.each_ref().map(Option::is_some);
        let mut list: Vec<_> = fds.into_iter().flatten().collect();
        poll::wait(&mut list, deadline)?;

        let mut events = list.iter().map(PollFd::revents);
        let found = present.map(|present| {
            if present {
                events.next().unwrap_or(PollFlags::empty())
            } else {
                PollFlags::empty()
            }
        });
        Ok(Ready {
            stdout: !found[0].is_empty(),
            stderr: !found[1].is_empty(),
            job: !(found[2] | found[3]).is_empty(),
            host_spoke: !found[4].difference(PollFlags::OUT).is_empty(),
        })
    }

    fn move_output(&mut self, ready: &Ready) -> Result<(), ConnectionError> {
        let mut moved = None;
        for (source, ready) in [(Source::Stdout, ready.stdout), (Source::Stderr, ready.stderr)] {
            if !ready {
                continue;
            }
            let found = if self.host_gone {
                self.output.drop_some(source)?
            } else {
                self.output.read_some(source, self.connection)?
            };
            if moved != Some(Found::Much) {
                moved = Some(found);
            }
        }
        if moved == Some(Found::Little) {
            self.gather_until = Some(Instant::now() + GATHER);
        }
        Ok(())
    }
}

//! The two pipes a run writes to, seen from the reading side.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_proto::Reply;
use agent_proto::frame::OUTPUT_PIECE_MAX;
use rustix::event::PollFlags;
use rustix::io::ioctl_fionread;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::connection::{Connection, ConnectionError, Stream};
use crate::drain::Drain;
use crate::poll;

/// Size a pipe is grown to once a run fills it, in bytes: the default bound of `/proc/sys/fs/pipe-max-size`.
const GROWN_PIPE_BYTES: usize = 1 << 20;

/// First size of a read, in bytes, and how it grows each time that it was not enough.
const REACH_FIRST: usize = 4 * 1024;
const REACH_GROWTH: usize = 4;

/// The read ends.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Pipe,
    stderr: Pipe,
    scratch: Vec<u8>,
    /// Bytes asked for by the next read. Little at first: room is memory that is touched, which in a fresh clone is a
    /// fault for each page.
    reach: usize,
}

/// The write ends; the run's processes must be the only ones to hold them.
#[derive(Debug)]
pub(crate) struct Writers {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

#[derive(Debug)]
struct Pipe {
    fd: Option<OwnedFd>,
    grown: bool,
}

/// What one read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Less than was asked for: the pipe is empty for the moment.
    Little,
    /// More is likely to be there.
    Much,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

impl Output {
    pub(crate) fn new() -> io::Result<(Self, Writers)> {
        let (stdout_read, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr_read, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let output = Self {
            stdout: Pipe {
                fd: Some(stdout_read),
                grown: false,
            },
            stderr: Pipe {
                fd: Some(stderr_read),
                grown: false,
            },
            scratch: Vec::new(),
            reach: REACH_FIRST,
        };
        Ok((output, Writers { stdout, stderr }))
    }

    pub(crate) fn stdout(&self) -> Option<BorrowedFd<'_>> {
        self.stdout.fd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn stderr(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.fd.as_ref().map(AsFd::as_fd)
    }

    /// Moves what one read gives to the connection. The pipe must be ready, or this blocks.
    pub(crate) fn read_some<S: Stream>(
        &mut self,
        source: Source,
        connection: &mut Connection<S>,
    ) -> Result<Found, ConnectionError> {
        self.read_reach(source, Some(connection))
    }

    /// As [`Self::read_some`], for a host that is gone.
    pub(crate) fn drop_some(&mut self, source: Source) -> Result<Found, ConnectionError> {
        self.read_reach::<std::os::unix::net::UnixStream>(source, None)
    }

    fn read_reach<S: Stream>(
        &mut self,
        source: Source,
        connection: Option<&mut Connection<S>>,
    ) -> Result<Found, ConnectionError> {
        let reach = self.reach;
        if self.read(source, reach, connection)? < reach {
            return Ok(Found::Little);
        }
        self.reach = (reach * REACH_GROWTH).min(OUTPUT_PIECE_MAX);
        Ok(Found::Much)
    }

    /// The run has ended: moves exactly what the pipes hold now.
    pub(crate) fn move_rest<S: Stream>(
        &mut self,
        mut connection: Option<&mut Connection<S>>,
    ) -> Result<(), ConnectionError> {
        for source in [Source::Stdout, Source::Stderr] {
            let mut left = self.held(source)?;
            while left > 0 {
                let count = self.read(source, left.min(OUTPUT_PIECE_MAX), connection.as_deref_mut())?;
                if count == 0 {
                    break;
                }
                left -= count;
            }
        }
        Ok(())
    }

    /// Leaves whatever comes from now on to the drain.
    pub(crate) fn leave(self, drain: &Drain) -> io::Result<()> {
        for fd in [self.stdout.fd, self.stderr.fd].into_iter().flatten() {
            // Hung up and empty means that nobody can write any more.
            if poll::ready_now(&fd, PollFlags::IN)? != PollFlags::HUP {
                drain.take(fd);
            }
        }
        Ok(())
    }

    fn held(&self, source: Source) -> io::Result<usize> {
        let pipe = match source {
            Source::Stdout => &self.stdout,
            Source::Stderr => &self.stderr,
        };
        let Some(fd) = &pipe.fd else {
            return Ok(0);
        };
        Ok(usize::try_from(ioctl_fionread(fd)?).unwrap_or(0))
    }

    /// Bytes read; at the end of the pipe it is closed, and never ready again.
    fn read<S: Stream>(
        &mut self,
        source: Source,
        max: usize,
        connection: Option<&mut Connection<S>>,
    ) -> Result<usize, ConnectionError> {
        let pipe = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        let Some(fd) = &pipe.fd else {
            return Ok(0);
        };
        self.scratch.resize(max, 0);
        // An interrupted read must not look like the end of the pipe: what it holds would be lost.
        let count = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *self.scratch))
            .map_err(io::Error::from)?;
        if count == 0 {
            pipe.fd = None;
            return Ok(0);
        }
        if count == OUTPUT_PIECE_MAX && !pipe.grown {
            pipe.grown = true;
            // Fewer and longer turns between writer and reader. Refused when the user's pipes are many; no matter.
            let _ = fcntl_setpipe_size(fd, GROWN_PIPE_BYTES);
        }
        if let Some(connection) = connection {
            let bytes = self.scratch[..count].to_vec();
            connection.push(&match source {
                Source::Stdout => Reply::Stdout(bytes),
                Source::Stderr => Reply::Stderr(bytes),
            })?;
        }
        Ok(count)
    }
}

//! Reads and drops what processes still write after their run has ended.
//!
//! A background process keeps the write end of its run's pipe. If nobody read, it would block once the pipe is full;
//! if the pipe were closed, it would die of SIGPIPE. One thread drains all such pipes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use crate::poll;

/// Pipes drained at once; with more, the oldest is closed and its writers get SIGPIPE.
const PIPES_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Drain {
    arrived: Mutex<Vec<OwnedFd>>,
    bell: OwnedFd,
}

impl Drain {
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let drain = Arc::new(Self {
            arrived: Mutex::new(Vec::new()),
            bell: eventfd(0, EventfdFlags::CLOEXEC)?,
        });
        let worker = Arc::clone(&drain);
        thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || worker.work())?;
        Ok(drain)
    }

    /// Takes over the read end of a pipe.
    pub(crate) fn take(&self, pipe: OwnedFd) {
        self.arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pipe);
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn work(&self) {
        let mut pipes: Vec<OwnedFd> = Vec::new();
        let mut scratch = vec![0; 64 * 1024];
        loop {
            let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
            fds.extend(pipes.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            if poll::wait(&mut fds, None).is_err() {
                continue;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let mut index = 0;
            pipes.retain(|pipe| {
                index += 1;
                // A ready pipe does not block: either bytes or the end.
                !ready[index] || matches!(rustix::io::read(pipe, &mut *scratch), Ok(count) if count > 0)
            });
            if ready[0] {
                let _ = rustix::io::read(&self.bell, &mut [0; 8]);
                pipes.append(&mut self.arrived.lock().unwrap_or_else(PoisonError::into_inner));
                pipes.drain(..pipes.len().saturating_sub(PIPES_MAX));
            }
        }
    }
}

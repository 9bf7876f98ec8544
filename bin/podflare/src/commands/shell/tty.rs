//! The terminal this program runs in.
//!
//! While it is connected its line discipline is off: every key goes to the sandbox. It is put back however the program
//! ends: when the guard goes out of scope, by the thread that waits for signals, and before a panic is told.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::sync::Arc;

use api::PtyResizeRequest;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::Failure;

/// Standard input, a terminal.
#[derive(Debug)]
pub(super) struct Tty {
    fd: Arc<OwnedFd>,
}

/// The terminal's settings as they were.
#[derive(Debug)]
pub(super) struct RawMode {
    restorer: Restorer,
}

/// Every key is passed on until this is dropped.
#[must_use]
pub(super) struct Raw(Restorer);

#[derive(Clone, Debug)]
pub(super) struct Restorer {
    fd: Arc<OwnedFd>,
    settings: Termios,
}

impl Tty {
    /// `None` when standard input is no terminal.
    pub(super) fn of_stdin() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let fd = stdin.as_fd().try_clone_to_owned().ok()?;
        Some(Self { fd: Arc::new(fd) })
    }

    /// Its size, if it has one: a serial line has none.
    pub(super) fn size(&self) -> Option<PtyResizeRequest> {
        let size = tcgetwinsize(&self.fd).ok()?;
        let is_some = size.ws_col > 0 && size.ws_row > 0;
        is_some.then_some(PtyResizeRequest {
            cols: size.ws_col,
            rows: size.ws_row,
        })
    }

    /// Waits for keys; nothing at the end of the terminal.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Err(rustix::io::Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
    }

    pub(super) fn share(&self) -> Self {
        Self {
            fd: Arc::clone(&self.fd),
        }
    }
}

impl RawMode {
    /// Remembers how the terminal is set.
    pub(super) fn prepare(tty: &Tty) -> Result<Self, Failure> {
        let settings = tcgetattr(&tty.fd).map_err(|error| failure(error.into()))?;
        Ok(Self {
            restorer: Restorer {
                fd: Arc::clone(&tty.fd),
                settings,
            },
        })
    }

    pub(super) fn restorer(&self) -> Restorer {
        self.restorer.clone()
    }

    pub(super) fn begin(&self) -> Result<Raw, Failure> {
        let restorer = self.restorer();
        let mut raw = restorer.settings.clone();
        raw.make_raw();
        let at_panic = restorer.clone();
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            at_panic.restore();
            tell(panic);
        }));
        tcsetattr(&restorer.fd, OptionalActions::Drain, &raw).map_err(|error| failure(error.into()))?;
        Ok(Raw(restorer))
    }
}

impl Restorer {
    /// Puts the settings back; may be done more than once.
    pub(super) fn restore(&self) {
        // With the terminal gone there is nothing to put back.
        let _ = tcsetattr(&self.fd, OptionalActions::Drain, &self.settings);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.0.restore();
    }
}

fn failure(error: io::Error) -> Failure {
    Failure::while_doing("terminal", "cannot set up the terminal", &error)
}

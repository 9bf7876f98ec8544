//! Ctrl-C, SIGTERM and a closed terminal.
//!
//! One thread waits for them. When one comes, it has done what the command has left with it for this case (remove the
//! sandbox, stop the host that is being started), and ends the process. A second signal ends it at once. Signals are
//! caught rather than blocked, because programs that we start would inherit a blocked one and be deaf to it, while
//! for them a caught one is as it was.

use std::io;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// What is to be done before the process ends on a signal.
type CleanUp = Box<dyn FnOnce() + Send>;

/// The way to leave work with the thread that waits for signals. By default there is no such thread, and signals do
/// what they do to any program.
#[derive(Clone, Default)]
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
}

/// Takes the clean-up back when it goes out of scope.
#[must_use]
pub(crate) struct Armed {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    never: Condvar,
}

#[derive(Default)]
struct State {
    interrupted: bool,
    clean_up: Option<CleanUp>,
}

impl Interrupts {
    /// Catches the signals and starts the thread that waits for them.
    ///
    /// # Errors
    /// When the kernel gives no thread or no handler.
    pub(crate) fn watch() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let interrupts = Self::default();
        let shared = Arc::clone(&interrupts.shared);
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                shared.interrupt(signal);
            }
        })?;
        Ok(interrupts)
    }

    /// Leaves a clean-up until the returned guard is dropped; one at a time.
    pub(crate) fn on_interrupt(&self, clean_up: impl FnOnce() + Send + 'static) -> Armed {
        self.shared.lock().clean_up = Some(Box::new(clean_up));
        Armed {
            shared: Arc::clone(&self.shared),
        }
    }

    /// To be called before telling of a failure: when a signal came, the failure is its doing, and the process is
    /// about to end without another word.
    pub(crate) fn settle(&self) {
        let mut state = self.shared.lock();
        while state.interrupted {
            state = self
                .shared
                .never
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.shared.lock().clean_up = None;
    }
}

impl Shared {
    /// Starts the clean-up at the first signal; ends the process after it, or at the second one.
    fn interrupt(&self, signal: i32) {
        let clean_up = {
            let mut state = self.lock();
            if state.interrupted {
                end(signal);
            }
            state.interrupted = true;
            state.clean_up.take()
        };
        let Some(clean_up) = clean_up else { end(signal) };
        let cleaning = thread::Builder::new().name("clean-up".into()).spawn(move || {
            clean_up();
            end(signal);
        });
        if cleaning.is_err() {
            end(signal);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::exit,
    reason = "the main thread may be blocked in a read and cannot be asked to return"
)]
fn end(signal: i32) -> ! {
    process::exit(
        Exit::Interrupted(u8::try_from(signal).unwrap_or(0))
            .status()
            .into(),
    )
}

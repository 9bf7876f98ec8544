//! One thread per virtual CPU.
//!
//! ```text
//!              Resume                 Finish
//!  ┌────────┐ ───────> ┌─────────┐            ┌──────────┐
//!  │ parked │          │ running │ ─────────> │ finished │
//!  └────────┘ <─────── └─────────┘            └──────────┘
//!     │  ^     Pause        │ the guest ended       ^
//!     │  └──────────────────┘                       │
//!     └─────────────────── Finish ──────────────────┘
//! ```
//!
//! A thread starts parked. The main loop tells it what to do through a channel and kicks it out of `KVM_RUN`
//! ([`kick`]); the thread answers through the machine's event channel. Nothing is shared under a lock, so a parked
//! thread cannot hold one.
//!
//! A thread that met the end of its VM (triple fault, KVM error) reports it, parks, and obeys nothing but Finish.

mod kick;
mod run;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use kvm_ioctls::VcpuFd;
use thiserror::Error;
use vmm_sys_util::signal::Killable as _;

pub(crate) use kick::{ExitFlag, install_handler as install_kick_handler, kick_signal};
use run::VcpuLoop;
pub(crate) use run::{Buses, Seat};

use crate::confine::{Confinement, Thread};
use crate::events::EventSender;

#[derive(Debug, Error)]
pub enum VcpuError {
    #[error("cannot install the handler of the signal that interrupts vCPUs")]
    Signal(#[source] vmm_sys_util::errno::Error),
    #[error("cannot start the thread of vCPU {index}")]
    Spawn {
        index: u8,
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Pause,
    Resume,
    Finish,
}

/// The main loop's hold on one vCPU thread.
#[derive(Debug)]
pub(crate) struct VcpuHandle {
    commands: Sender<Command>,
    /// Makes the next `KVM_RUN` return at once. Valid until the thread is joined: its return value owns the mapping.
    exit_flag: ExitFlag,
    exits: Arc<AtomicU64>,
    thread: JoinHandle<VcpuFd>,
}

impl VcpuHandle {
    /// Starts the thread, parked.
    pub(crate) fn spawn(
        mut seat: Seat,
        events: EventSender,
        confinement: Confinement,
    ) -> Result<Self, VcpuError> {
        kick::install_handler().map_err(VcpuError::Signal)?;
        let index = seat.index;
        let exit_flag = ExitFlag::of(&mut seat.vcpu);
        let exits = Arc::new(AtomicU64::new(0));
        let (commands, inbox) = mpsc::channel();
        let vcpu_loop = VcpuLoop::new(seat, (events, inbox), Arc::clone(&exits));
        let thread = thread::Builder::new()
            .name(format!("vcpu{index}"))
            .spawn(move || match confinement.restrict(Thread::Vcpu) {
                Ok(()) => vcpu_loop.run(),
                Err(error) => vcpu_loop.refuse(&error),
            })
            .map_err(|source| VcpuError::Spawn { index, source })?;
        Ok(Self {
            commands,
            exit_flag,
            exits,
            thread,
        })
    }

    /// Answered by `Parked` with the state of the CPU, also when it is parked already.
    pub(crate) fn pause(&self) {
        self.tell(Command::Pause);
    }

    pub(crate) fn resume(&self) {
        self.tell(Command::Resume);
    }

    /// In a forked child, which has no such thread: forgets it without touching anything the thread may have held.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }

    /// Ends the thread and waits for that.
    pub(crate) fn finish(self) {
        self.tell(Command::Finish);
        // A thread that panicked has aborted the process.
        drop(self.thread.join());
    }

    /// Exits to this process so far.
    pub(crate) fn exits(&self) -> u64 {
        self.exits.load(Ordering::Relaxed)
    }

    fn tell(&self, command: Command) {
        // First the command, then the flag: see `VcpuLoop::running`.
        if self.commands.send(command).is_ok() {
            self.exit_flag.raise();
            // Fails only for a thread that has ended.
            let _ = self.thread.kill(kick_signal());
        }
    }
}

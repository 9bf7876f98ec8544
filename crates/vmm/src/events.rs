//! What vCPU threads and devices tell the main loop.
//!
//! The channel has no bound, so its senders do: a device reports an event once in its life, a vCPU once per command
//! it was given.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use vmm_proto::EndCause;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::arch::CpuError;
use crate::state::CpuState;

#[derive(Debug)]
pub(crate) enum MachineEvent {
    /// A vCPU stands still, as it was told to, in this state.
    Parked {
        vcpu: u8,
        state: Result<Box<CpuState>, CpuError>,
    },
    /// The guest announced a panic of its kernel; it may still print and will usually reset.
    Panicked,
    /// The VM is over.
    Ended(EndCause),
}

/// Cheap to clone; one for every thread and device.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    channel: Sender<MachineEvent>,
    wake: Arc<EventFd>,
}

/// The main loop's end. Its `wake` becomes readable when there is something to take.
#[derive(Debug)]
pub(crate) struct EventReceiver {
    channel: Receiver<MachineEvent>,
    wake: Arc<EventFd>,
}

pub(crate) fn channel() -> io::Result<(EventSender, EventReceiver)> {
    let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
    let (sender, receiver) = mpsc::channel();
    let sender = EventSender {
        channel: sender,
        wake: Arc::clone(&wake),
    };
    Ok((
        sender,
        EventReceiver {
            channel: receiver,
            wake,
        },
    ))
}

impl EventSender {
    pub(crate) fn send(&self, event: MachineEvent) {
        // Both fail only when the main loop is gone, and then the process is ending.
        let _ = self.channel.send(event);
        let _ = self.wake.write(1);
    }
}

impl EventReceiver {
    pub(crate) fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// Clears the wake-up and takes all there is.
    pub(crate) fn drain(&self) -> Vec<MachineEvent> {
        // Cleared first: an event sent from now on wakes the loop again.
        let _ = self.wake.read();
        self.channel.try_iter().collect()
    }
}

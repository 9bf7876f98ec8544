//! What a device is to the transport, and what the transport is to a device.
//!
//! A device is driven from the main loop only: its methods that touch rings or host file descriptors run there, with
//! the transport locked. vCPU threads reach no more of it than its configuration space and [`VirtioDevice::reset`].

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use event_manager::{EventOps, EventSet, Events};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_queue::Queue;

use super::interrupt::Interrupt;
use super::net::NetState;
use super::ring::{ChainError, Ring};
use super::vsock::VsockState;
use crate::disk::{DiskError, DiskState};
use crate::memory::GuestMemory;

/// The part of a virtio device that is not the transport.
pub trait VirtioDevice: Send + Debug {
    /// Device type, virtio 1.2 section 5.
    fn id(&self) -> u32;

    /// Feature bits of this device type; the transport adds its own.
    fn features(&self) -> u64;

    /// Largest size of each queue, a power of two.
    fn queue_sizes(&self) -> &[u16];

    /// Device configuration space, constant for the device's life. Reads beyond it give zeros.
    fn config(&self) -> &[u8];

    /// Registers the device's own file descriptors, through [`Host::watch`].
    ///
    /// # Errors
    /// The event loop takes no more.
    fn start(&mut self, host: &mut Host<'_, '_>) -> Result<(), DeviceError> {
        let _ = host;
        Ok(())
    }

    /// Works on what happened. An error ends the device until the driver resets it.
    ///
    /// # Errors
    /// The driver broke the protocol in a way that has no reply, or the host fails us.
    fn handle(
        &mut self,
        event: DeviceEvent,
        rings: &mut Rings<'_>,
        host: &mut Host<'_, '_>,
    ) -> Result<Progress, DeviceError>;

    /// When the device wants to look at a queue without having been told of anything on it, and at which.
    fn due(&self) -> Option<(Instant, usize)> {
        None
    }

    /// Something happened to a file descriptor of the device while no driver is there, or the driver has just gone
    /// ([`DeviceEvent::Stopped`]).
    fn handle_idle(&mut self, event: DeviceEvent, host: &mut Host<'_, '_>) {
        let _ = (event, host);
    }

    /// The VM is about to be cloned: what the device holds now, its clones will hold as well. What it changes from now
    /// on must go elsewhere; it takes from `files` what it needs for that.
    fn share(&mut self, files: &mut OwnFiles) {
        let _ = files;
    }

    /// Descriptors the device owns. In a clone all others are closed before [`VirtioDevice::inherit`], which closes
    /// those of these that the device does not keep.
    fn kept(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// This is the clone now: a forked process, in which the driver goes on where it was. What led outside of the VM
    /// is cut, and the driver told in the way of the device; instead of what belongs to the parent, the device takes
    /// its own from `files`. The event loop is a new one: [`VirtioDevice::start`] follows, and then, if the driver is
    /// ready, [`DeviceEvent::Started`].
    ///
    /// # Errors
    /// The process is out of descriptors, or one is missing.
    fn inherit(&mut self, files: &mut OwnFiles) -> io::Result<()> {
        let _ = files;
        Ok(())
    }

    /// The VM gets something else in place of what it has: the device takes its part of `files`, and tells whether it
    /// was one. It does not touch what it had before its next event, which comes at once.
    fn replace(&mut self, files: &mut OwnFiles) -> bool {
        let _ = files;
        false
    }

    /// What makes the device continue in another process, when its VM is written to files. Bulk data goes to `layer`,
    /// an empty file.
    ///
    /// # Errors
    /// A file cannot be read or written.
    fn save(&self, layer: &File) -> Result<DeviceState, DeviceError> {
        let _ = layer;
        Ok(DeviceState::Nothing)
    }

    /// The driver reset the device: forget it. May run on a vCPU thread; what needs the event loop waits for
    /// [`DeviceEvent::Stopped`].
    fn reset(&mut self);
}

/// A device in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceState {
    /// A device that remembers nothing.
    Nothing,
    Block(DiskState),
    Vsock(VsockState),
    Net(NetState),
}

/// What a VM has of its own after it was cloned, parent or clone.
#[derive(Debug, Default)]
pub struct OwnFiles {
    /// For what is written to the disk: an empty file, open for reading and writing.
    pub layer: Option<File>,
    /// Where host processes connect to the guest: listening. The parent keeps the one it has.
    pub vsock: Option<UnixListener>,
    /// What carries the guest's network frames: a connected socket of messages.
    pub wire: Option<OwnedFd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The driver is ready; what waited for it may go on.
    Started,
    /// The driver has reset the device.
    Stopped,
    /// The driver has put requests on this queue.
    Queue(usize),
    /// A descriptor registered under this token.
    Host { token: u32, set: EventSet },
}

/// Whether a device has worked off what there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// It stopped at its bound, so that others get their turn; handle this queue again soon.
    MoreOn(usize),
}

/// Why a device stopped. The driver sees DEVICE_NEEDS_RESET.
#[derive(Debug, Error)]
pub enum DeviceError {
    #[error("the driver broke a queue")]
    Queue(#[source] virtio_queue::Error),
    #[error("the driver sent a malformed chain")]
    Chain(#[from] ChainError),
    #[error("the driver offered a buffer of {len} bytes, less than the {needed} a reply takes")]
    BufferTooSmall { len: usize, needed: usize },
    #[error("the driver set up queue {queue} wrongly")]
    QueueSetup {
        queue: usize,
        source: super::queue_setup::QueueSetupError,
    },
    #[error("the driver set status {status:#x} out of order")]
    Status { status: u32 },
    #[error("the event loop refused a descriptor")]
    EventLoop(#[source] event_manager::Error),
    #[error("the disk failed")]
    Disk(#[source] DiskError),
    #[error("the host failed the device")]
    Host(#[source] io::Error),
}

/// The queues of a device whose driver is ready.
#[derive(Debug)]
pub struct Rings<'a> {
    pub(super) memory: &'a GuestMemory,
    pub(super) queues: &'a mut [Option<Queue>],
    pub(super) interrupt: &'a Interrupt,
    /// What the driver has accepted.
    pub(super) features: u64,
}

impl Rings<'_> {
    /// Queue `index`, when the driver has set it up.
    pub fn ring(&mut self, index: usize) -> Option<Ring<'_>> {
        let queue = self.queues.get_mut(index)?.as_mut()?;
        Some(Ring::new(queue, self.memory))
    }

    /// Whether the driver has accepted the feature with this number.
    #[must_use]
    pub fn has_feature(&self, bit: u32) -> bool {
        self.features & (1 << bit) != 0
    }

    /// Interrupts the guest, if the driver wants that for what was given back on any of these queues. One interrupt
    /// serves all queues of a device, so ask once for all of them.
    ///
    /// # Errors
    /// A ring lies outside memory, which set-up excludes.
    pub fn interrupt_for(&mut self, indices: &[usize]) -> Result<(), DeviceError> {
        let mut wanted = false;
        for &index in indices {
            if let Some(mut ring) = self.ring(index) {
                wanted |= ring.wants_interrupt()?;
            }
        }
        if wanted {
            self.interrupt.queues_used();
        }
        Ok(())
    }
}

/// The event loop, as one device may use it.
#[derive(Debug)]
pub struct Host<'a, 'b> {
    ops: &'a mut EventOps<'b>,
}

/// Tokens of devices come after those of the transport's own descriptors.
pub(super) const DEVICE_TOKEN_FIRST: u32 = 1 << 16;

/// Tokens a device may use are below this.
pub const TOKENS: u32 = u32::MAX - DEVICE_TOKEN_FIRST;

impl<'a, 'b> Host<'a, 'b> {
    pub(super) fn new(ops: &'a mut EventOps<'b>) -> Self {
        Self { ops }
    }

    /// Watches a descriptor; its events come back with `token` (below [`TOKENS`]).
    ///
    /// WARNING: call [`Host::unwatch`] before the descriptor is closed, or the event loop refuses the next one of the
    /// same number.
    ///
    /// # Errors
    /// The event loop takes no more.
    pub fn watch(
        &mut self,
        source: &impl std::os::fd::AsRawFd,
        token: u32,
        set: EventSet,
    ) -> Result<(), DeviceError> {
        let events = Events::with_data(source, DEVICE_TOKEN_FIRST.saturating_add(token), set);
        self.ops.add(events).map_err(DeviceError::EventLoop)
    }

    /// Watches a watched descriptor for something else.
    ///
    /// # Errors
    /// The descriptor is not watched.
    pub fn rewatch(
        &mut self,
        source: &impl std::os::fd::AsRawFd,
        token: u32,
        set: EventSet,
    ) -> Result<(), DeviceError> {
        let events = Events::with_data(source, DEVICE_TOKEN_FIRST.saturating_add(token), set);
        self.ops.modify(events).map_err(DeviceError::EventLoop)
    }

    /// Watches a descriptor no longer.
    pub fn unwatch(&mut self, source: &impl std::os::fd::AsRawFd) {
        // It fails only for what is not watched, and then there is nothing to do.
        let _ = self.ops.remove(Events::empty(source));
    }
}

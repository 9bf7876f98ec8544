//! The interrupt line of one device.
//!
//! The guest reads the status and acknowledges it on every interrupt, from a vCPU thread; both work on an atomic, so
//! that they never wait for a device that is busy in the main loop.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::EventFd;

/// A wire to the guest's interrupt controller.
pub trait InterruptLine: Debug + Send + Sync {
    /// Raises and lowers the line: one edge.
    fn pulse(&self);
}

/// For whoever listens on an event descriptor instead of an interrupt controller.
impl InterruptLine for EventFd {
    fn pulse(&self) {
        // A full counter (the only failure) means that nobody has taken 2^64 edges before this one.
        let _ = self.write(1);
    }
}

#[derive(Debug)]
pub(super) struct Interrupt {
    /// InterruptStatus of virtio 1.2 section 4.2.2.
    status: AtomicU32,
    line: Box<dyn InterruptLine>,
}

impl Interrupt {
    pub(super) fn new(line: Box<dyn InterruptLine>) -> Self {
        Self {
            status: AtomicU32::new(0),
            line,
        }
    }

    /// The same interrupt on another line, as a clone has it.
    pub(super) fn on_line(&self, line: Box<dyn InterruptLine>) -> Self {
        Self {
            status: AtomicU32::new(self.status()),
            line,
        }
    }

    pub(super) fn restore(&self, status: u32) {
        self.status.store(status, Ordering::SeqCst);
        self.repeat();
    }

    /// Sends the edge again for what the driver has not acknowledged.
    pub(super) fn repeat(&self) {
        if self.status() != 0 {
            self.line.pulse();
        }
    }

    /// Tells the driver that buffers have been used.
    pub(super) fn queues_used(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// Tells the driver that the device status or configuration has changed.
    pub(super) fn configuration_changed(&self) {
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    pub(super) fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    pub(super) fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::SeqCst);
        // The edge is sent even when the bit was set before: an edge that met a masked line is lost, and the next one
        // must not depend on it.
        self.line.pulse();
    }
}

//! The register window of one device: virtio-mmio version 2, virtio 1.2 section 4.2.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use event_manager::MutEventSubscriber;
use thiserror::Error;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_QUEUE_NOTIFY,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::device::{DeviceError, DeviceState, OwnFiles, VirtioDevice};
use super::interrupt::{Interrupt, InterruptLine};
use super::queue_setup::QueueSetupError;
use super::transport::{Transport, TransportState, Wiring};
use crate::memory::GuestMemory;

/// Size of a device's window: one page, so that each can be mapped and trapped on its own.
pub const MMIO_WINDOW_BYTES: u64 = 0x1000;

/// Handle to one device, shared by vCPU threads and the main loop.
#[derive(Clone, Debug)]
pub struct MmioDevice {
    wiring: Arc<Wiring>,
    transport: Arc<Mutex<Transport>>,
}

#[derive(Debug, Error)]
pub enum MmioError {
    #[error("cannot make the device's event descriptors")]
    EventFd(#[source] io::Error),
    #[error("the device cannot have been in the state that was saved")]
    Restore(#[source] QueueSetupError),
    #[error("the device cannot go on in the clone")]
    Inherit(#[source] io::Error),
}

impl Wiring {
    fn new(interrupt: Interrupt, queues: usize) -> Result<Self, MmioError> {
        let new_event = || EventFd::new(EFD_NONBLOCK).map_err(MmioError::EventFd);
        Ok(Self {
            interrupt,
            notifiers: (0..queues).map(|_| new_event()).collect::<Result<_, _>>()?,
            wake: new_event()?,
        })
    }

    /// What a driver may have put on a queue before, unheard, is looked at.
    fn notify_all(&self) {
        (0..)
            .zip(&self.notifiers)
            .for_each(|(queue, _)| self.notify(queue));
    }
}

impl MmioDevice {
    /// Puts `device` behind a register window. It interrupts the guest by an edge on `irq`.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        irq: Box<dyn InterruptLine>,
    ) -> Result<Self, MmioError> {
        let wiring = Arc::new(Wiring::new(Interrupt::new(irq), device.queue_sizes().len())?);
        let transport = Arc::new(Mutex::new(Transport::new(device, memory, Arc::clone(&wiring))));
        Ok(Self { wiring, transport })
    }

    /// The device in a snapshot. Nothing may be at work on it.
    ///
    /// # Errors
    /// Those of [`VirtioDevice::save`].
    pub fn save(&self, layer: &File) -> Result<(TransportState, DeviceState), DeviceError> {
        let transport = self.lock();
        Ok((transport.save(), transport.save_device(layer)?))
    }

    /// Puts a new device back to where one like it was saved. The interrupt controllers must be in place.
    ///
    /// # Errors
    /// The state is not one the device can have.
    pub fn restore(&self, state: &TransportState) -> Result<(), MmioError> {
        self.lock().restore(state).map_err(MmioError::Restore)?;
        self.wiring.interrupt.restore(state.interrupt);
        self.wiring.notify_all();
        Ok(())
    }

    /// See [`VirtioDevice::share`].
    pub fn share(&self, files: &mut OwnFiles) {
        self.lock().share(files);
    }

    /// See [`VirtioDevice::replace`].
    pub fn replace(&self, files: &mut OwnFiles) {
        if self.lock().replace(files) {
            self.wiring.notify_all();
        }
    }

    /// See [`VirtioDevice::kept`].
    #[must_use]
    pub fn kept(&self) -> Vec<RawFd> {
        self.lock().kept()
    }

    /// The same device in a clone, a forked process, on new descriptors and a new line. This handle must not be used
    /// any more.
    ///
    /// Nothing that was under way is lost: each queue counts as notified, and what the driver has not acknowledged is
    /// sent again, so it does not matter how old the captured state of the interrupt controllers is. They must be in
    /// place.
    ///
    /// # Errors
    /// The process is out of file descriptors, or the device misses one of its own.
    pub fn inherit(self, irq: Box<dyn InterruptLine>, files: &mut OwnFiles) -> Result<Self, MmioError> {
        let Self { wiring, transport } = self;
        let interrupt = wiring.interrupt.on_line(irq);
        let wiring = Arc::new(Wiring::new(interrupt, wiring.notifiers.len())?);
        let inherited = Self { wiring, transport };
        inherited
            .lock()
            .inherit(Arc::clone(&inherited.wiring), files)
            .map_err(MmioError::Inherit)?;
        inherited.wiring.notify_all();
        inherited.wiring.interrupt.repeat();
        Ok(inherited)
    }

    /// One event descriptor per queue, to be signalled when the guest writes the queue's number to the QueueNotify
    /// register, at offset 0x50 of the window. This saves the way through [`MmioDevice::write`].
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn queue_notifiers(&self) -> Result<Vec<EventFd>, MmioError> {
        let clones = self.wiring.notifiers.iter().map(EventFd::try_clone);
        clones.collect::<Result<_, _>>().map_err(MmioError::EventFd)
    }

    /// A read of the window by a vCPU. What is not a register reads as zeros.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(at) = offset.checked_sub(VIRTIO_MMIO_CONFIG.into()) {
            self.lock().read_config(at, data);
        } else if let (Some(register), Ok(word)) = (register_of(offset), <&mut [u8; 4]>::try_from(data)) {
            let value = match register {
                VIRTIO_MMIO_INTERRUPT_STATUS => self.wiring.interrupt.status(),
                other => self.lock().read_register(other),
            };
            *word = value.to_le_bytes();
        }
    }

    /// A write to the window by a vCPU. What is not a writable register ignores it.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let (Some(register), Ok(word)) = (register_of(offset), <[u8; 4]>::try_from(data)) else {
            return;
        };
        let value = u32::from_le_bytes(word);
        match register {
            VIRTIO_MMIO_INTERRUPT_ACK => self.wiring.interrupt.acknowledge(value),
            VIRTIO_MMIO_QUEUE_NOTIFY => self.wiring.notify(value),
            other => self.lock().write_register(other, value),
        }
    }

    /// What the main loop calls; it locks the device while it works on an event.
    #[must_use]
    pub fn subscriber(&self) -> Arc<Mutex<dyn MutEventSubscriber + Send>> {
        Arc::clone(&self.transport) as _
    }

    /// Why the device last stopped with DEVICE_NEEDS_RESET, with all causes; for reports on a VM that went wrong.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.lock().fault()
    }

    /// When [`MmioDevice::look`] is to be called.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.lock().due().map(|(at, _)| at)
    }

    /// Has the device look at the queue it wanted to look at, if its time has come.
    pub fn look(&self, now: Instant) {
        let due = self.lock().due();
        if let Some((_, queue)) = due.filter(|(at, _)| now >= *at) {
            self.wiring.notify(u32::try_from(queue).unwrap_or(u32::MAX));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Transport> {
        // A thread that panicked with the lock leaves data that is checked at each use anyway.
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registers are aligned words below the configuration space.
fn register_of(offset: u64) -> Option<u32> {
    let register = u32::try_from(offset).ok()?;
    (register < VIRTIO_MMIO_CONFIG && register.is_multiple_of(4)).then_some(register)
}

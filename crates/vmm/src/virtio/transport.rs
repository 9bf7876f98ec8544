//! The transport's state: what the driver has negotiated and set up, and the dispatch of events to the device.
//!
//! ```text
//!   reset -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> (queues ready) -> DRIVER_OK: the device works
//!     ^                                                                   |
//!     +--- status 0 -------- DEVICE_NEEDS_RESET or FAILED: no service <---+
//! ```
//!
//! Writes to Status only add bits; 0 resets. FEATURES_OK stays clear when the driver asks for what was not offered or
//! does without VIRTIO_F_VERSION_1. A queue is checked whole when the driver makes it ready, and its registers are
//! closed from then on.

use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use pod_types::ErrorChain;
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio as registers;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use super::device::{
    DEVICE_TOKEN_FIRST, DeviceError, DeviceEvent, DeviceState, Host, OwnFiles, Progress, Rings, VirtioDevice,
};
use super::interrupt::Interrupt;
use super::queue_setup::{Half, QueueSetup, QueueSetupError, QueueState, set_half};
use crate::log::GuestLog;
use crate::memory::GuestMemory;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// Virtio-mmio devices that follow virtio 1.0 and later.
const VERSION: u32 = 2;
/// "PODF"; drivers only print it.
const VENDOR: u32 = 0x4644_4f50;
/// What the length of a shared memory region that does not exist reads as (4.2.2).
const NO_SHARED_MEMORY: u32 = u32::MAX;

const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX;

/// Status before DRIVER_OK may be set.
const STATUS_NEGOTIATED: u32 =
    VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
const STATUS_STOPPED: u32 = VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET;

/// Token of the wake descriptor; queue notifiers have their queue's number.
const WAKE_TOKEN: u32 = DEVICE_TOKEN_FIRST - 1;

/// A driver can fail its device as often as it likes.
static LOG: GuestLog = GuestLog::new();

/// What vCPU threads use of a device without its lock.
#[derive(Debug)]
pub(super) struct Wiring {
    pub(super) interrupt: Interrupt,
    /// One per queue.
    pub(super) notifiers: Vec<EventFd>,
    /// Tells the main loop that the driver has started or reset the device.
    pub(super) wake: EventFd,
}

impl Wiring {
    pub(super) fn notify(&self, queue: u32) {
        let notifier = usize::try_from(queue)
            .ok()
            .and_then(|queue| self.notifiers.get(queue));
        if let Some(notifier) = notifier {
            // A full counter is a notification too.
            let _ = notifier.write(1);
        }
    }
}

#[derive(Debug)]
pub(super) struct Transport {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemory,
    wiring: Arc<Wiring>,

    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    setups: Vec<QueueSetup>,
    /// Queues the driver has made ready.
    queues: Vec<Option<Queue>>,
    /// The device has not yet heard that its driver has gone.
    stopped: bool,
    /// The device has not yet heard that its driver is there.
    started: bool,
    fault: Option<DeviceError>,
}

/// The driver's side in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportState {
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    pub(super) interrupt: u32,
    queues: Vec<QueueState>,
}

impl Transport {
    pub(super) fn new(device: Box<dyn VirtioDevice>, memory: GuestMemory, wiring: Arc<Wiring>) -> Self {
        let setups: Vec<_> = device
            .queue_sizes()
            .iter()
            .map(|size| QueueSetup::new(*size))
            .collect();
        Self {
            queues: setups.iter().map(|_| None).collect(),
            setups,
            device,
            memory,
            wiring,
            status: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
            stopped: false,
            started: false,
            fault: None,
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.fault.as_ref().map(|fault| ErrorChain(fault).to_string())
    }

    pub(super) fn due(&self) -> Option<(Instant, usize)> {
        self.working().then(|| self.device.due()).flatten()
    }

    pub(super) fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = usize::try_from(offset)
            .ok()
            .and_then(|at| self.device.config().get(at..));
        for (byte, value) in data.iter_mut().zip(config.unwrap_or_default()) {
            *byte = *value;
        }
    }

    pub(super) fn read_register(&self, register: u32) -> u32 {
        match register {
            registers::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            registers::VIRTIO_MMIO_VERSION => VERSION,
            registers::VIRTIO_MMIO_DEVICE_ID => self.device.id(),
            registers::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            registers::VIRTIO_MMIO_DEVICE_FEATURES => half_of(self.features(), self.device_features_select),
            registers::VIRTIO_MMIO_QUEUE_NUM_MAX => self
                .selected()
                .and_then(|queue| self.setups.get(queue))
                .map_or(0, |setup| setup.size_max.into()),
            registers::VIRTIO_MMIO_QUEUE_READY => {
                let ready = self.selected().and_then(|queue| self.queues[queue].as_ref());
                ready.is_some().into()
            }
            registers::VIRTIO_MMIO_STATUS => self.status,
            registers::VIRTIO_MMIO_SHM_LEN_LOW
            | registers::VIRTIO_MMIO_SHM_LEN_HIGH
            | registers::VIRTIO_MMIO_SHM_BASE_LOW
            | registers::VIRTIO_MMIO_SHM_BASE_HIGH => NO_SHARED_MEMORY,
            // ConfigGeneration among them: the configuration of our devices never changes, so 0 says the truth.
            _ => 0,
        }
    }

    pub(super) fn write_register(&mut self, register: u32, value: u32) {
        match register {
            registers::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_select = value,
            registers::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_select = value,
            registers::VIRTIO_MMIO_DRIVER_FEATURES => self.set_driver_features(value),
            registers::VIRTIO_MMIO_QUEUE_SEL => self.queue_select = value,
            registers::VIRTIO_MMIO_QUEUE_READY => self.set_queue_ready(value == 1),
            registers::VIRTIO_MMIO_STATUS => self.set_status(value),
            _ => self.write_queue_register(register, value),
        }
    }

    fn features(&self) -> u64 {
        self.device.features() | FEATURES
    }

    fn selected(&self) -> Option<usize> {
        usize::try_from(self.queue_select)
            .ok()
            .filter(|queue| *queue < self.queues.len())
    }

    fn set_driver_features(&mut self, value: u32) {
        if self.status & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            return;
        }
        match self.driver_features_select {
            0 => set_half(&mut self.driver_features, Half::Low, value),
            1 => set_half(&mut self.driver_features, Half::High, value),
            _ => {}
        }
    }

    fn write_queue_register(&mut self, register: u32, value: u32) {
        let Some(queue) = self.selected() else {
            return;
        };
        // The registers of a ready queue are closed (4.2.2.2).
        if self.queues[queue].is_some() {
            return;
        }
        let setup = &mut self.setups[queue];
        match register {
            registers::VIRTIO_MMIO_QUEUE_NUM => setup.size = value,
            registers::VIRTIO_MMIO_QUEUE_DESC_LOW => set_half(&mut setup.descriptors, Half::Low, value),
            registers::VIRTIO_MMIO_QUEUE_DESC_HIGH => set_half(&mut setup.descriptors, Half::High, value),
            registers::VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_half(&mut setup.available, Half::Low, value),
            registers::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_half(&mut setup.available, Half::High, value),
            registers::VIRTIO_MMIO_QUEUE_USED_LOW => set_half(&mut setup.used, Half::Low, value),
            registers::VIRTIO_MMIO_QUEUE_USED_HIGH => set_half(&mut setup.used, Half::High, value),
            _ => {}
        }
    }

    fn set_queue_ready(&mut self, ready: bool) {
        let Some(queue) = self.selected() else {
            return;
        };
        if !ready {
            self.queues[queue] = None;
            return;
        }
        // Queues are set up between FEATURES_OK and DRIVER_OK (3.1.1), once.
        let status = self.status & (STATUS_NEGOTIATED | VIRTIO_CONFIG_S_DRIVER_OK | STATUS_STOPPED);
        if status != STATUS_NEGOTIATED || self.queues[queue].is_some() {
            return;
        }
        let event_idx = self.driver_features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        match self.setups[queue].build(&self.memory, event_idx) {
            Ok(built) => self.queues[queue] = Some(built),
            Err(source) => self.fail(DeviceError::QueueSetup { queue, source }),
        }
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.reset();
            return;
        }
        let settable = STATUS_NEGOTIATED | VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED;
        let mut added = value & settable & !self.status;
        if added & VIRTIO_CONFIG_S_FEATURES_OK != 0 && !self.features_acceptable() {
            added &= !VIRTIO_CONFIG_S_FEATURES_OK;
        }
        let status = self.status | added;
        if added & VIRTIO_CONFIG_S_DRIVER_OK != 0 {
            if status & STATUS_NEGOTIATED != STATUS_NEGOTIATED {
                self.fail(DeviceError::Status { status: value });
                return;
            }
            self.started = true;
            // The main loop hears of it as of a notification; a full counter is one.
            let _ = self.wiring.wake.write(1);
        }
        self.status = status;
    }

    fn features_acceptable(&self) -> bool {
        let wanted = self.driver_features;
        wanted & !self.features() == 0 && wanted & (1 << VIRTIO_F_VERSION_1) != 0
    }

    fn reset(&mut self) {
        self.status = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        for (setup, queue) in self.setups.iter_mut().zip(&mut self.queues) {
            *setup = QueueSetup::new(setup.size_max);
            *queue = None;
        }
        self.wiring.interrupt.acknowledge(u32::MAX);
        self.started = false;
        self.stopped = true;
        self.device.reset();
        let _ = self.wiring.wake.write(1);
    }

    pub(super) fn save(&self) -> TransportState {
        let queues = self.setups.iter().zip(&self.queues);
        TransportState {
            status: self.status,
            device_features_select: self.device_features_select,
            driver_features_select: self.driver_features_select,
            driver_features: self.driver_features,
            queue_select: self.queue_select,
            interrupt: self.wiring.interrupt.status(),
            queues: queues
                .map(|(setup, queue)| QueueState::of(setup, queue.as_ref()))
                .collect(),
        }
    }

    pub(super) fn save_device(&self, layer: &File) -> Result<DeviceState, DeviceError> {
        self.device.save(layer)
    }

    /// Takes over what was saved of a device like this one, which is new.
    pub(super) fn restore(&mut self, state: &TransportState) -> Result<(), QueueSetupError> {
        if state.queues.len() != self.setups.len() {
            return Err(QueueSetupError::Count {
                count: state.queues.len(),
            });
        }
        let event_idx = state.driver_features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        for (at, saved) in state.queues.iter().enumerate() {
            let size_max = self.setups[at].size_max;
            (self.setups[at], self.queues[at]) = saved.restore(size_max, &self.memory, event_idx)?;
        }
        self.status = state.status;
        self.device_features_select = state.device_features_select;
        self.driver_features_select = state.driver_features_select;
        self.driver_features = state.driver_features;
        self.queue_select = state.queue_select;
        self.started = self.working();
        let _ = self.wiring.wake.write(1);
        Ok(())
    }

    pub(super) fn share(&mut self, files: &mut OwnFiles) {
        self.device.share(files);
    }

    pub(super) fn kept(&self) -> Vec<RawFd> {
        self.device.kept()
    }

    /// See [`VirtioDevice::inherit`].
    pub(super) fn inherit(&mut self, wiring: Arc<Wiring>, files: &mut OwnFiles) -> io::Result<()> {
        self.wiring = wiring;
        self.device.inherit(files)?;
        self.started = self.working();
        let _ = self.wiring.wake.write(1);
        Ok(())
    }

    /// See [`VirtioDevice::replace`].
    pub(super) fn replace(&mut self, files: &mut OwnFiles) -> bool {
        self.device.replace(files)
    }

    /// The device stops until the driver resets it (2.1.2).
    fn fail(&mut self, error: DeviceError) {
        LOG.line(format_args!(
            "virtio device {}: {}",
            self.device.id(),
            ErrorChain(&error)
        ));
        self.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        self.fault = Some(error);
        if self.status & VIRTIO_CONFIG_S_DRIVER_OK != 0 {
            self.wiring.interrupt.configuration_changed();
        }
    }

    fn working(&self) -> bool {
        self.status & VIRTIO_CONFIG_S_DRIVER_OK != 0 && self.status & STATUS_STOPPED == 0
    }

    /// Lets the device work on one event.
    fn dispatch(&mut self, event: DeviceEvent, ops: &mut EventOps<'_>) {
        let mut host = Host::new(ops);
        if !self.working() {
            self.device.handle_idle(event, &mut host);
            return;
        }
        let interrupt = &self.wiring.interrupt;
        let mut rings = Rings {
            memory: &self.memory,
            queues: &mut self.queues,
            interrupt,
            features: self.driver_features,
        };
        match self.device.handle(event, &mut rings, &mut host) {
            Ok(Progress::Done) => {}
            // Through the event loop, so that other devices and the control socket get their turn.
            Ok(Progress::MoreOn(queue)) => self.wiring.notify(u32::try_from(queue).unwrap_or(u32::MAX)),
            Err(error) => self.fail(error),
        }
    }

    fn register(&mut self, ops: &mut EventOps<'_>) -> Result<(), DeviceError> {
        for (token, notifier) in (0..).zip(&self.wiring.notifiers) {
            ops.add(Events::with_data(notifier, token, EventSet::IN))
                .map_err(DeviceError::EventLoop)?;
        }
        ops.add(Events::with_data(&self.wiring.wake, WAKE_TOKEN, EventSet::IN))
            .map_err(DeviceError::EventLoop)?;
        self.device.start(&mut Host::new(ops))
    }
}

impl MutEventSubscriber for Transport {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = self.register(ops) {
            self.fail(error);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let token = events.data();
        if let Some(token) = token.checked_sub(DEVICE_TOKEN_FIRST) {
            self.dispatch(
                DeviceEvent::Host {
                    token,
                    set: events.event_set(),
                },
                ops,
            );
        } else if token == WAKE_TOKEN {
            // Reading clears it; it cannot fail for a readable descriptor in a way that matters.
            let _ = self.wiring.wake.read();
            if std::mem::take(&mut self.stopped) {
                self.device.handle_idle(DeviceEvent::Stopped, &mut Host::new(ops));
            }
            if std::mem::take(&mut self.started) {
                self.dispatch(DeviceEvent::Started, ops);
            }
        } else if let Ok(queue) = usize::try_from(token)
            && let Some(notifier) = self.wiring.notifiers.get(queue)
        {
            let _ = notifier.read();
            self.dispatch(DeviceEvent::Queue(queue), ops);
        }
    }
}

fn half_of(features: u64, select: u32) -> u32 {
    let half = match select {
        0 => features,
        1 => features >> 32,
        _ => 0,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "one half of the register is what was asked for"
    )]
    let half = half as u32;
    half
}

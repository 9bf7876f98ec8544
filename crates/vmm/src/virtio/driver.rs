//! A driver for tests and fuzzing: does to a device what a guest would, through its registers and rings in memory.
#![expect(
    clippy::unwrap_used,
    reason = "test code, though the fuzz crate compiles it without `cfg(test)`"
)]

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use virtio_bindings::virtio_mmio as registers;
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{MmioDevice, OwnFiles, VirtioDevice};
use crate::memory::GuestMemory;

/// Where buffers may lie: above the rings, below the end of memory.
pub const DATA: u64 = 0x10_0000;
pub const MEMORY_BYTES: usize = 0x80_0000;

/// Each queue has three areas of this size, from address `AREA` on: descriptors, available ring, used ring.
const AREA: u64 = 0x2000;

/// Size the driver gives each queue, small enough that rings wrap often.
pub const QUEUE_SIZE: u16 = 32;

/// ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, one after the other.
pub const STATUS_STEPS: [u32; 4] = [1, 1 | 2, 1 | 2 | 8, 1 | 2 | 8 | 4];
pub const NEEDS_RESET: u32 = 64;

/// What serves a device.
pub type Loop = EventManager<Arc<Mutex<dyn MutEventSubscriber + Send>>>;

/// The driver of one device.
#[derive(Debug)]
pub struct Driver {
    pub device: MmioDevice,
    pub memory: GuestMemory,
    pub irq: EventFd,
    queues: Vec<DriverQueue>,
}

#[derive(Clone, Copy, Debug, Default)]
struct DriverQueue {
    available: u16,
    used: u16,
    descriptor_next: u16,
}

/// One descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    pub address: u64,
    pub len: u32,
    pub writable: bool,
}

/// A chain the device has given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub head: u16,
    pub len: u32,
}

impl Driver {
    /// A driver that has not begun yet, and an event loop that serves its device.
    pub fn new(device: Box<dyn VirtioDevice>) -> (Self, Loop) {
        let queues = vec![DriverQueue::default(); device.queue_sizes().len()];
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        let irq = EventFd::new(EFD_NONBLOCK).unwrap();
        let device = MmioDevice::new(device, memory.clone(), Box::new(irq.try_clone().unwrap())).unwrap();
        let mut events = EventManager::new().unwrap();
        events.add_subscriber(device.subscriber());
        (
            Self {
                device,
                memory,
                irq,
                queues,
            },
            events,
        )
    }

    /// The device goes on as that of a clone, on a new event loop. What served it before must be gone.
    pub fn become_clone(&mut self, files: &mut OwnFiles) -> Loop {
        let irq = Box::new(self.irq.try_clone().unwrap());
        self.device = self.device.clone().inherit(irq, files).unwrap();
        let mut events = EventManager::new().unwrap();
        events.add_subscriber(self.device.subscriber());
        events
    }

    /// The same driver, as far as it has come, with a copy of its memory and another device.
    pub fn moved_to(&self, device: MmioDevice, memory: GuestMemory, irq: EventFd) -> Self {
        Self {
            device,
            memory,
            irq,
            queues: self.queues.clone(),
        }
    }

    pub fn get(&self, register: u32) -> u32 {
        let mut word = [0xff; 4];
        self.device.read(register.into(), &mut word);
        u32::from_le_bytes(word)
    }

    pub fn set(&self, register: u32, value: u32) {
        self.device.write(register.into(), &value.to_le_bytes());
    }

    pub fn status(&self) -> u32 {
        self.get(registers::VIRTIO_MMIO_STATUS)
    }

    pub fn set_status(&self, status: u32) {
        self.set(registers::VIRTIO_MMIO_STATUS, status);
    }

    /// Resets the device and brings it up to DRIVER_OK, with all features it offers.
    pub fn start(&mut self) {
        self.start_without(0);
    }

    /// The same without some of the features.
    pub fn start_without(&mut self, features: u64) {
        self.set_status(0);
        self.set_status(STATUS_STEPS[0]);
        self.set_status(STATUS_STEPS[1]);
        let bytes = features.to_le_bytes();
        let (words, _) = bytes.as_chunks::<4>();
        let unwanted = words.iter().map(|word| u32::from_le_bytes(*word));
        for (half, unwanted) in (0..).zip(unwanted) {
            self.set(registers::VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
            self.set(registers::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            let offered = self.get(registers::VIRTIO_MMIO_DEVICE_FEATURES);
            self.set(registers::VIRTIO_MMIO_DRIVER_FEATURES, offered & !unwanted);
        }
        self.set_status(STATUS_STEPS[2]);
        for queue in 0..self.queues.len() {
            self.set_up(queue);
        }
        self.set_status(STATUS_STEPS[3]);
    }

    /// Writes a queue's registers and makes it ready, its rings empty.
    pub fn set_up(&mut self, queue: usize) {
        self.queues[queue] = DriverQueue::default();
        let (available, used) = (self.area(queue, 1), self.area(queue, 2));
        for address in [available, used] {
            self.memory
                .write_slice(&[0; 1024], GuestAddress(address))
                .unwrap();
        }
        self.set(registers::VIRTIO_MMIO_QUEUE_SEL, u32::try_from(queue).unwrap());
        self.set(registers::VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE.into());
        self.set(
            registers::VIRTIO_MMIO_QUEUE_DESC_LOW,
            u32::try_from(self.area(queue, 0)).unwrap(),
        );
        self.set(
            registers::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
            u32::try_from(available).unwrap(),
        );
        self.set(
            registers::VIRTIO_MMIO_QUEUE_USED_LOW,
            u32::try_from(used).unwrap(),
        );
        self.set(registers::VIRTIO_MMIO_QUEUE_READY, 1);
    }

    /// Puts a chain on a queue and notifies the device. The caller keeps the number of descriptors in use below
    /// [`QUEUE_SIZE`].
    pub fn submit(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let head = self.place(queue, buffers);
        self.notify(queue);
        head
    }

    /// Puts a chain on a queue.
    pub fn place(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let head = self.queues[queue].descriptor_next % QUEUE_SIZE;
        for (at, buffer) in buffers.iter().enumerate() {
            let index = self.queues[queue].descriptor_next % QUEUE_SIZE;
            self.queues[queue].descriptor_next = (index + 1) % QUEUE_SIZE;
            let next = (index + 1) % QUEUE_SIZE;
            let mut flags = if buffer.writable { VRING_DESC_F_WRITE } else { 0 };
            if at + 1 < buffers.len() {
                flags |= VRING_DESC_F_NEXT;
            }
            self.write_descriptor(queue, index, *buffer, u16::try_from(flags).unwrap(), next);
        }
        self.publish(queue, head);
        head
    }

    pub fn write_descriptor(&self, queue: usize, index: u16, buffer: Buffer, flags: u16, next: u16) {
        let address = GuestAddress(self.area(queue, 0) + u64::from(index % QUEUE_SIZE) * 16);
        let mut bytes = buffer.address.to_le_bytes().to_vec();
        bytes.extend(buffer.len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.memory.write_slice(&bytes, address).unwrap();
    }

    /// Makes a chain head available.
    pub fn publish(&mut self, queue: usize, head: u16) {
        let slot = self.queues[queue].available % QUEUE_SIZE;
        let ring = self.area(queue, 1);
        self.memory
            .write_obj(head, GuestAddress(ring + 4 + u64::from(slot) * 2))
            .unwrap();
        self.queues[queue].available = self.queues[queue].available.wrapping_add(1);
        let available = self.queues[queue].available;
        self.memory
            .store(available, GuestAddress(ring + 2), Ordering::SeqCst)
            .unwrap();
    }

    /// Whether the device wants to hear of the chain made available last.
    pub fn must_notify(&self, queue: usize) -> bool {
        let event = self.area(queue, 2) + 4 + u64::from(QUEUE_SIZE) * 8;
        let event: u16 = self.memory.load(GuestAddress(event), Ordering::SeqCst).unwrap();
        event == self.queues[queue].available.wrapping_sub(1)
    }

    pub fn notify(&self, queue: usize) {
        self.set(registers::VIRTIO_MMIO_QUEUE_NOTIFY, u32::try_from(queue).unwrap());
    }

    /// The next chain the device has given back, and asks for an interrupt when there is another.
    pub fn poll(&mut self, queue: usize) -> Option<Used> {
        let ring = self.area(queue, 2);
        let state = &mut self.queues[queue];
        let index: u16 = self
            .memory
            .load(GuestAddress(ring + 2), Ordering::SeqCst)
            .unwrap();
        if index == state.used {
            return None;
        }
        let entry = GuestAddress(ring + 4 + u64::from(state.used % QUEUE_SIZE) * 8);
        let (head, len): (u32, u32) = (
            self.memory.read_obj(entry).unwrap(),
            self.memory.read_obj(GuestAddress(entry.0 + 4)).unwrap(),
        );
        state.used = state.used.wrapping_add(1);
        let (used, event) = (state.used, self.area(queue, 1) + 4 + u64::from(QUEUE_SIZE) * 2);
        self.memory.write_obj(used, GuestAddress(event)).unwrap();
        Some(Used {
            head: u16::try_from(head).unwrap(),
            len,
        })
    }

    /// How many chains have been taken back from a queue, modulo 2^16.
    #[must_use]
    pub fn used(&self, queue: usize) -> u16 {
        self.queues[queue].used
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    fn area(&self, queue: usize, which: u64) -> u64 {
        (1 + 3 * queue as u64 + which) * AREA
    }
}

impl Buffer {
    #[must_use]
    pub fn readable(address: u64, len: usize) -> Self {
        Self {
            address,
            len: u32::try_from(len).unwrap(),
            writable: false,
        }
    }

    #[must_use]
    pub fn writable(address: u64, len: usize) -> Self {
        Self {
            address,
            len: u32::try_from(len).unwrap(),
            writable: true,
        }
    }
}

/// Lets the loop work until nothing is left to do.
pub fn settle(events: &mut Loop) {
    while events.run_with_timeout(0).unwrap() > 0 {}
}

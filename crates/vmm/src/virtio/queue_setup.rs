//! Set-up of one queue: what the driver has written to its registers, checked as a whole before it is used.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_queue::{Queue, QueueT};

use crate::memory::GuestMemory;

/// Queue registers of virtio-mmio, as written; meaningless until [`QueueSetup::build`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueSetup {
    pub(super) size_max: u16,
    pub(super) size: u32,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

#[derive(Debug, Error)]
pub enum QueueSetupError {
    #[error("size {size} is not a power of two from 1 to {size_max}")]
    Size { size: u32, size_max: u16 },
    #[error("the device does not have {count} queues")]
    Count { count: usize },
    #[error("an address is not aligned")]
    Alignment(#[source] virtio_queue::Error),
    #[error("a part of it lies outside guest memory")]
    OutsideMemory,
}

impl QueueSetup {
    pub(super) fn new(size_max: u16) -> Self {
        Self {
            size_max,
            size: size_max.into(),
            descriptors: 0,
            available: 0,
            used: 0,
        }
    }

    /// The queue these registers describe.
    pub(super) fn build(&self, memory: &GuestMemory, event_idx: bool) -> Result<Queue, QueueSetupError> {
        let size = u16::try_from(self.size)
            .ok()
            .filter(|size| size.is_power_of_two() && *size <= self.size_max)
            .ok_or(QueueSetupError::Size {
                size: self.size,
                size_max: self.size_max,
            })?;
        let state = virtio_queue::QueueState {
            max_size: self.size_max,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: event_idx,
            size,
            ready: true,
            desc_table: self.descriptors,
            avail_ring: self.available,
            used_ring: self.used,
        };
        let queue = Queue::try_from(state).map_err(QueueSetupError::Alignment)?;
        // The queue type takes address 0 of the available ring for "not set"; no driver puts one there.
        if self.available == 0 || !queue.is_valid(memory) {
            return Err(QueueSetupError::OutsideMemory);
        }
        Ok(queue)
    }
}

/// One queue in a snapshot. Not trusted: it goes through the same checks as what a driver writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueueState {
    size: u32,
    descriptors: u64,
    available: u64,
    used: u64,
    /// Of a queue that is ready: the next available and the next used entry.
    progress: Option<[u16; 2]>,
}

impl QueueState {
    pub(super) fn of(setup: &QueueSetup, queue: Option<&Queue>) -> Self {
        Self {
            size: setup.size,
            descriptors: setup.descriptors,
            available: setup.available,
            used: setup.used,
            progress: queue.map(|queue| [queue.next_avail(), queue.next_used()]),
        }
    }

    pub(super) fn restore(
        &self,
        size_max: u16,
        memory: &GuestMemory,
        event_idx: bool,
    ) -> Result<(QueueSetup, Option<Queue>), QueueSetupError> {
        let setup = QueueSetup {
            size_max,
            size: self.size,
            descriptors: self.descriptors,
            available: self.available,
            used: self.used,
        };
        let Some([next_avail, next_used]) = self.progress else {
            return Ok((setup, None));
        };
        let mut queue = setup.build(memory, event_idx)?;
        queue.set_next_avail(next_avail);
        queue.set_next_used(next_used);
        Ok((setup, Some(queue)))
    }
}

/// Replaces the low or high half of a 64-bit register.
pub(super) fn set_half(register: &mut u64, half: Half, value: u32) {
    *register = match half {
        Half::Low => (*register & !0xffff_ffff) | u64::from(value),
        Half::High => (*register & 0xffff_ffff) | (u64::from(value) << 32),
    };
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    Low,
    High,
}

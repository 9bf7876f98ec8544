//! A queue as a device sees it: requests come off it as checked chains, and go back used.

use std::sync::atomic::Ordering;

use thiserror::Error;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, Permissions};

use super::device::DeviceError;
use super::scatter::{Scatter, ScatterError};
use crate::memory::GuestMemory;

/// One queue while a device works on it.
#[derive(Debug)]
pub struct Ring<'a> {
    queue: &'a mut Queue,
    memory: &'a GuestMemory,
}

/// One request: a descriptor chain that has been followed to its end, all of it inside guest memory.
#[derive(Debug, Default)]
pub struct Chain<'m> {
    /// Names the chain when it is given back.
    pub head: u16,
    /// How many descriptors it takes up.
    pub descriptors: u16,
    /// What the driver says.
    pub readable: Scatter<'m>,
    /// Where the driver wants the answer.
    pub writable: Scatter<'m>,
}

/// What a driver can get wrong in a chain.
#[derive(Debug, Error)]
pub enum ChainError {
    #[error("the chain is empty, loops, or leaves its table")]
    Broken,
    #[error("a device-readable descriptor follows a device-writable one")]
    OutOfOrder,
    #[error("a descriptor names memory that does not exist")]
    Memory(#[source] ScatterError),
}

impl<'a> Ring<'a> {
    pub(super) fn new(queue: &'a mut Queue, memory: &'a GuestMemory) -> Self {
        Self { queue, memory }
    }

    /// Takes the next request, if there is one.
    ///
    /// # Errors
    /// The driver broke the rules of rings; the device cannot go on.
    pub fn pop(&mut self) -> Result<Option<Chain<'a>>, DeviceError> {
        let mut chain = Chain::default();
        Ok(self.pop_into(&mut chain)?.then_some(chain))
    }

    /// Takes the next request in place of one that is done with, so that one after the other costs no memory of its
    /// own. False when there is none.
    ///
    /// # Errors
    /// As of [`Ring::pop`].
    pub fn pop_into(&mut self, chain: &mut Chain<'a>) -> Result<bool, DeviceError> {
        let memory = self.memory;
        let Some(descriptors) = self.queue.iter(memory).map_err(DeviceError::Queue)?.next() else {
            return Ok(false);
        };
        chain.head = descriptors.head_index();
        chain.descriptors = 0;
        chain.readable.clear();
        chain.writable.clear();
        let mut more = true;
        for descriptor in descriptors {
            let (address, len) = (GuestAddress(descriptor.addr().0), descriptor.len() as usize);
            let pushed = if descriptor.is_write_only() {
                chain
                    .writable
                    .push_memory(memory, address, len, Permissions::Write)
            } else if chain.writable.is_empty() {
                chain
                    .readable
                    .push_memory(memory, address, len, Permissions::Read)
            } else {
                return Err(ChainError::OutOfOrder.into());
            };
            pushed.map_err(ChainError::Memory)?;
            chain.descriptors = chain.descriptors.saturating_add(1);
            more = descriptor.has_next();
        }
        // The iterator ends quietly at what it cannot follow; a whole chain ends at a descriptor without a next.
        if more {
            return Err(ChainError::Broken.into());
        }
        Ok(true)
    }

    /// Puts the last `count` popped chains back, to be popped again. None of them may have been given to the driver.
    pub fn unpop(&mut self, count: u16) {
        let next = self.queue.next_avail().wrapping_sub(count);
        self.queue.set_next_avail(next);
    }

    /// Gives a chain back to the driver, `written` bytes of it filled.
    ///
    /// # Errors
    /// The ring lies outside memory, which set-up excludes.
    pub fn push_used(&mut self, head: u16, written: u32) -> Result<(), DeviceError> {
        self.queue
            .add_used(self.memory, head, written)
            .map_err(DeviceError::Queue)
    }

    /// Asks the driver to tell us of the next request. True when one is there already: take it now, as no
    /// notification may come for it.
    ///
    /// # Errors
    /// The ring lies outside memory, which set-up excludes.
    pub fn watch(&mut self) -> Result<bool, DeviceError> {
        self.queue
            .enable_notification(self.memory)
            .map_err(DeviceError::Queue)
    }

    /// How many requests the driver has put on the queue since set-up, modulo 2^16, taken or not.
    ///
    /// # Errors
    /// The ring lies outside memory, which set-up excludes.
    pub fn available(&self) -> Result<u16, DeviceError> {
        let index = self.queue.avail_idx(self.memory, Ordering::Acquire);
        index.map(|index| index.0).map_err(DeviceError::Queue)
    }

    /// How many requests have been taken since set-up, modulo 2^16.
    #[must_use]
    pub fn taken(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Whether all requests there are have been taken.
    ///
    /// # Errors
    /// The ring lies outside memory, which set-up excludes.
    pub fn is_empty(&self) -> Result<bool, DeviceError> {
        Ok(self.available()? == self.taken())
    }

    /// Asks the driver to tell us of the next request it puts after those that are there, which are not taken.
    ///
    /// # Errors
    /// The ring lies outside memory, which set-up excludes.
    pub fn watch_beyond(&mut self) -> Result<(), DeviceError> {
        let next = self.queue.next_avail();
        self.queue.set_next_avail(self.available()?);
        let watched = self.watch();
        self.queue.set_next_avail(next);
        watched.map(|_more| ())
    }

    /// Asks the driver to tell us of the next request but one, where it can be asked that (VIRTIO_F_EVENT_IDX). True when
    /// one is there already: take it now.
    ///
    /// # Errors
    /// The ring lies outside memory, which set-up excludes.
    pub fn watch_second(&mut self) -> Result<bool, DeviceError> {
        if !self.queue.event_idx_enabled() {
            return self.watch();
        }
        let next = self.queue.next_avail();
        self.queue.set_next_avail(next.wrapping_add(1));
        let watched = self.watch();
        self.queue.set_next_avail(next);
        watched?;
        Ok(self.available()? != next)
    }

    /// Asks the driver not to tell us of further requests, while we are looking anyway.
    ///
    /// # Errors
    /// The ring lies outside memory, which set-up excludes.
    pub fn unwatch(&mut self) -> Result<(), DeviceError> {
        self.queue
            .disable_notification(self.memory)
            .map_err(DeviceError::Queue)
    }

    /// Whether the driver wants an interrupt for what was given back since this was last asked.
    ///
    /// # Errors
    /// The ring lies outside memory, which set-up excludes.
    pub fn wants_interrupt(&mut self) -> Result<bool, DeviceError> {
        self.queue
            .needs_notification(self.memory)
            .map_err(DeviceError::Queue)
    }

    /// How many descriptors the queue has.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// How many chains have been given back since set-up, modulo 2^16.
    #[must_use]
    pub fn used(&self) -> u16 {
        self.queue.next_used()
    }
}

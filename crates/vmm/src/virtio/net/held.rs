//! Transmit buffers that are done with, on their way back to the driver.

use std::time::{Duration, Instant};

use super::TX;
use crate::virtio::device::{DeviceError, Rings};
use crate::virtio::ring::Chain;

/// The part of the transmit ring that is held back at most: a quarter, so that no driver waits for it.
const HELD_PART: u16 = 4;

/// Bytes held back at most. Linux lets a TCP connection have no more than about a millisecond's worth of bytes in a
/// device, or two packets; so the buffers of large ones go back at once.
const HELD_BYTES_MAX: usize = 8 * 1024;

/// How long a used transmit buffer may be held back. An acknowledgement from this host takes less.
pub(super) const PATIENCE: Duration = Duration::from_millis(2);

/// Transmit buffers that are done with but not given back.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) heads: Vec<u16>,
    descriptors: u16,
    bytes: usize,
    /// When they go back in any case.
    pub(super) until: Option<Instant>,
}

impl Held {
    pub(super) fn add(&mut self, chain: &Chain<'_>) {
        self.heads.push(chain.head);
        self.descriptors = self.descriptors.saturating_add(chain.descriptors);
        self.bytes = self.bytes.saturating_add(chain.readable.len());
        self.until.get_or_insert_with(|| Instant::now() + PATIENCE);
    }

    /// Gives the buffers back when the guest is interrupted anyway, or it is time.
    pub(super) fn give_back(&mut self, rings: &mut Rings<'_>, interrupting: bool) -> Result<(), DeviceError> {
        let Some(mut ring) = rings.ring(TX) else {
            // With their queue the driver has taken back the buffers.
            self.clear();
            return Ok(());
        };
        let due = self.until.is_some_and(|until| Instant::now() >= until);
        let large = self.bytes > HELD_BYTES_MAX || self.descriptors >= ring.size() / HELD_PART;
        if interrupting || due || large {
            for head in self.heads.drain(..) {
                ring.push_used(head, 0)?;
            }
            self.clear();
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.heads.clear();
        self.descriptors = 0;
        self.bytes = 0;
        self.until = None;
    }
}

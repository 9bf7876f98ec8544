//! A frame on its way into receive buffers.

use super::HEADER_BYTES;
use crate::virtio::device::DeviceError;
use crate::virtio::ring::{Chain, Ring};

/// Where `num_buffers` lies in the header.
const NUM_BUFFERS_AT: usize = 10;

/// Chains that are worked on; kept for a turn, so that frames of one turn share their memory.
#[derive(Debug, Default)]
pub(super) struct Desk<'m> {
    first: Chain<'m>,
    next: Chain<'m>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Whole,
    /// The driver has not offered enough buffers yet, just this many since set-up.
    NoBuffers {
        available: u16,
    },
    /// It will never fit into what the driver offers.
    Never,
}

/// Puts a frame, header first, into as many buffers as it takes, or with `one_buffer` into one. `filled` is room for the
/// list of them.
pub(super) fn place<'m>(
    ring: &mut Ring<'m>,
    desk: &mut Desk<'m>,
    filled: &mut Vec<(u16, u32)>,
    bytes: &mut [u8],
    one_buffer: bool,
) -> Result<Placed, DeviceError> {
    filled.clear();
    let mut count: u16 = 0;
    set_count(bytes, 1);
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        if count > 0 && one_buffer {
            ring.unpop(count);
            return Ok(Placed::Never);
        }
        if !ring.pop_into(&mut desk.next)? {
            let available = ring.taken();
            ring.unpop(count);
            // All the buffers there can be are not enough.
            return Ok(if count >= ring.size() {
                Placed::Never
            } else {
                Placed::NoBuffers { available }
            });
        }
        let chain = &mut desk.next;
        let needed = if count == 0 { HEADER_BYTES } else { 1 };
        if chain.writable.len() < needed {
            return Err(DeviceError::BufferTooSmall {
                len: chain.writable.len(),
                needed,
            });
        }
        let written = chain.writable.copy_from(rest);
        filled.push((chain.head, u32::try_from(written).unwrap_or(u32::MAX)));
        if count == 0 {
            std::mem::swap(&mut desk.first, &mut desk.next);
        }
        count = count.saturating_add(1);
        done += written;
    }
    if count > 1 {
        set_count(bytes, count);
        desk.first
            .writable
            .copy_from(bytes.get(..HEADER_BYTES).unwrap_or_default());
    }
    for (head, written) in filled.drain(..) {
        ring.push_used(head, written)?;
    }
    Ok(Placed::Whole)
}

fn set_count(bytes: &mut [u8], count: u16) {
    if let Some(field) = bytes.get_mut(NUM_BUFFERS_AT..HEADER_BYTES) {
        field.copy_from_slice(&count.to_le_bytes());
    }
}

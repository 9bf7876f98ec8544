//! From the host's sockets into the guest's receive buffers.

use super::BURST_MAX;
use super::packet::{HEADER_BYTES, Header, Op, PAYLOAD_BYTES_MAX};
use super::stream::{Fetched, Stream};
use crate::virtio::Scatter;
use crate::virtio::device::DeviceError;
use crate::virtio::ring::{Chain, Ring};

/// Reads from the host into receive buffers of the guest: first into one, and when that has been filled to its end
/// into many at once. Returns the buffers that are filled with their headers; all others are put back.
pub(super) fn fetch<'m>(
    stream: &mut Stream,
    first: Chain<'m>,
    ring: &mut Ring<'m>,
) -> Result<Vec<(Chain<'m>, Header)>, DeviceError> {
    let mut filled = Vec::new();
    let mut chains = vec![first];
    loop {
        let room = stream.connection.room().min(PAYLOAD_BYTES_MAX) as usize;
        let mut target = Scatter::default();
        let mut lens = Vec::with_capacity(chains.len());
        for chain in &chains {
            let len = data_room(chain)?.min(room - target.len());
            target.append(&chain.writable.part(HEADER_BYTES, len));
            lens.push(len);
        }
        let fetched = match stream.fetch(&target) {
            Fetched::Bytes(count) => count,
            Fetched::Nothing => 0,
        };
        let (mut left, mut unused) = (fetched, 0);
        for (chain, len) in chains.drain(..).zip(lens) {
            let len = len.min(left);
            left -= len;
            if len == 0 {
                unused += 1;
            } else {
                filled.push((
                    chain,
                    stream.header(Op::Data, 0, u32::try_from(len).unwrap_or(u32::MAX)),
                ));
            }
        }
        ring.unpop(unused);
        // A second round follows a first that filled its one buffer; after that it is the next stream's turn.
        if fetched < target.len() || filled.len() > 1 || !stream.wants_to_fetch() {
            return Ok(filled);
        }
        while chains.len() < BURST_MAX
            && let Some(chain) = ring.pop()?
        {
            chains.push(chain);
        }
        if chains.is_empty() {
            return Ok(filled);
        }
    }
}

/// Bytes of payload a receive buffer takes.
fn data_room(chain: &Chain<'_>) -> Result<usize, DeviceError> {
    let len = chain.writable.len();
    match len.checked_sub(HEADER_BYTES) {
        Some(room @ 1..) => Ok(room),
        _ => Err(DeviceError::BufferTooSmall {
            len,
            needed: HEADER_BYTES + 1,
        }),
    }
}

/// Completes a receive buffer, whose payload is in place, with its header.
pub(super) fn put(ring: &mut Ring<'_>, chain: &Chain<'_>, header: &Header) -> Result<(), DeviceError> {
    let len = chain.writable.copy_from(&header.to_bytes());
    if len < HEADER_BYTES {
        return Err(DeviceError::BufferTooSmall {
            len,
            needed: HEADER_BYTES,
        });
    }
    let written = u32::try_from(HEADER_BYTES)
        .unwrap_or(u32::MAX)
        .saturating_add(header.len);
    ring.push_used(chain.head, written)
}

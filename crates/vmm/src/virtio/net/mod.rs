//! The network device, virtio 1.2 section 5.1: whole Ethernet frames between the guest and a [`Wire`], a Unix socket of
//! messages to whoever switches them on the host.
//!
//! ```text
//!   guest ──transmit queue──> one frame ── sendmsg ──> wire        full: the queue is left alone until there is room
//!   guest <──receive queue─── one frame <──── recv ─── wire        no buffers: the wire is left alone until there are
//! ```
//!
//! So back-pressure goes through in both directions, and nothing is queued here. A frame is judged by its length alone.
//! Without a wire, or with one whose other end is gone, the link stays up and frames vanish. A clone begins with a wire
//! of its own; frames that lie in the rings when it is made go out from both.
//!
//! Offloads: the guest leaves checksums of TCP and UDP to others (they never leave this host as packets), and is told
//! that those it gets are good. Packets are as large as the wire's frames, instead of being cut from larger ones.
//!
//! # What it costs
//! A frame to the host takes one system call, straight from guest memory, and each burst one notification. One from the
//! host takes two copies, for it is read before it is known how many of the guest's buffers it needs. Interrupts cost
//! the guest two trapped register accesses; used transmit buffers, which no driver waits for as long as they are few and
//! small, are given back with the next frame that is received, or when [`held::PATIENCE`] has passed. No frame takes memory of
//! its own.

mod held;
mod place;
mod wire;

use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use event_manager::EventSet;
use net_proto::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, GUEST_MAC, MTU};
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
    VIRTIO_NET_HDR_F_DATA_VALID,
};

use super::device::{DeviceError, DeviceEvent, DeviceState, Host, OwnFiles, Progress, Rings, VirtioDevice};
use super::ring::Chain;
use held::Held;
use place::{Desk, Placed, place};
use wire::{READABLE, Received, Sent, WRITABLE, Wire};

pub use wire::{WireError, check};

/// Before each frame in a buffer; virtio 1.2 section 5.1.6.
const HEADER_BYTES: usize = 12;

/// Room for twenty of the longest frames in buffers of the size Linux begins with.
const QUEUE_SIZE: u16 = 256;
const RX: usize = 0;
const TX: usize = 1;

/// Frames moved in one direction before other devices get their turn: half a mebibyte.
const BATCH_MAX: usize = 32;

/// What the device has done so far. Read by any thread.
#[derive(Debug, Default)]
pub struct NetCounters {
    /// Frames the guest has received, and their bytes.
    pub rx_packets: AtomicU64,
    pub rx_bytes: AtomicU64,
    /// Frames for the guest that were too short or too long, or did not fit into its buffers.
    pub rx_dropped: AtomicU64,
    /// Frames that went out on the wire, and their bytes.
    pub tx_packets: AtomicU64,
    pub tx_bytes: AtomicU64,
    /// Frames of the guest that were too short or too long, or had no wire.
    pub tx_dropped: AtomicU64,
}

/// The device.
#[derive(Debug)]
pub struct Net {
    wire: Wire,
    /// A wire to use instead, from the next event on.
    wire_next: Option<OwnedFd>,
    config: [u8; 12],
    counters: Arc<NetCounters>,
    /// A header, and a frame behind it. One byte longer than the longest, so that longer ones are seen.
    buffer: Vec<u8>,
    /// Length of the frame in the buffer, when it waits for the driver to offer enough of its own.
    waiting: Option<usize>,
    /// The driver has no buffer left, and has been asked to tell of the next.
    starved: bool,
    /// Receive buffers of one frame, while it is put there.
    filled: Vec<(u16, u32)>,
    held: Held,
}

/// The device in a snapshot. It has no wire there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetState {
    held: Vec<u16>,
}

impl Net {
    /// A device without a wire.
    #[must_use]
    pub fn new() -> Self {
        let mut config = [0; 12];
        // mac, status, max_virtqueue_pairs, mtu.
        config[..6].copy_from_slice(&GUEST_MAC);
        config[10..].copy_from_slice(&MTU.to_le_bytes());
        Self {
            wire: Wire::new(None),
            wire_next: None,
            config,
            counters: Arc::default(),
            buffer: vec![0; HEADER_BYTES + FRAME_BYTES_MAX + 1],
            waiting: None,
            starved: false,
            filled: Vec::with_capacity(QUEUE_SIZE.into()),
            held: Held::default(),
        }
    }

    /// The device as it was saved, without a wire.
    #[must_use]
    pub fn restore(state: &NetState) -> Self {
        let mut net = Self::new();
        // There are never more; the file may say so all the same.
        net.held.heads = state.held.iter().copied().take(QUEUE_SIZE.into()).collect();
        net.held.until = Some(Instant::now());
        net
    }

    #[must_use]
    pub fn counters(&self) -> Arc<NetCounters> {
        Arc::clone(&self.counters)
    }

    /// Takes what the guest sends. True when there may be more.
    fn transmit(&mut self, rings: &mut Rings<'_>) -> Result<bool, DeviceError> {
        if self.wire.is_full() {
            return Ok(false);
        }
        let Some(mut ring) = rings.ring(TX) else {
            return Ok(false);
        };
        ring.unwatch()?;
        let mut chain = Chain::default();
        let mut taken = 0;
        loop {
            while taken < BATCH_MAX && ring.pop_into(&mut chain)? {
                if !self.send(&mut chain)? {
                    ring.unpop(1);
                    return Ok(false);
                }
                self.held.add(&chain);
                taken += 1;
            }
            if taken >= BATCH_MAX {
                return Ok(true);
            }
            if !ring.watch()? {
                return Ok(false);
            }
        }
    }

    /// Sends one frame. False when the wire has no room for it.
    fn send(&mut self, chain: &mut Chain<'_>) -> Result<bool, DeviceError> {
        let frame = &mut chain.readable;
        if frame.len() < HEADER_BYTES {
            return Err(DeviceError::BufferTooSmall {
                len: frame.len(),
                needed: HEADER_BYTES,
            });
        }
        frame.skip(HEADER_BYTES);
        let sent = if (FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&frame.len()) {
            self.wire.send(frame)
        } else {
            Sent::Dropped
        };
        let NetCounters {
            tx_packets,
            tx_bytes,
            tx_dropped,
            ..
        } = &*self.counters;
        match sent {
            Sent::Whole => count_frame(tx_packets, tx_bytes, frame.len()),
            Sent::Dropped => count(tx_dropped),
            Sent::Full => return Ok(false),
        }
        Ok(true)
    }

    /// Gives the guest what is on the wire. What is left there, the wire tells of again.
    fn receive(&mut self, rings: &mut Rings<'_>, host: &mut Host<'_, '_>) -> Result<(), DeviceError> {
        let one_buffer = !rings.has_feature(VIRTIO_NET_F_MRG_RXBUF);
        let flags = if rings.has_feature(VIRTIO_NET_F_GUEST_CSUM) {
            u8::try_from(VIRTIO_NET_HDR_F_DATA_VALID).unwrap_or(0)
        } else {
            0
        };
        let Some(mut ring) = rings.ring(RX) else {
            // Nobody will take what the wire would go on to tell of.
            self.starved = true;
            return Ok(());
        };
        let mut desk = Desk::default();
        for _ in 0..BATCH_MAX {
            self.starved = ring.is_empty()? && !ring.watch()?;
            if self.starved {
                return Ok(());
            }
            let Some(len) = self.next_frame(host) else {
                return Ok(());
            };
            self.buffer[..HEADER_BYTES].fill(0);
            self.buffer[0] = flags;
            let bytes = &mut self.buffer[..HEADER_BYTES + len];
            match place(&mut ring, &mut desk, &mut self.filled, bytes, one_buffer)? {
                Placed::Whole => count_frame(&self.counters.rx_packets, &self.counters.rx_bytes, len),
                Placed::Never => count(&self.counters.rx_dropped),
                Placed::NoBuffers { available } => {
                    self.waiting = Some(len);
                    // Watched before it is looked at, so that no buffer slips through between the two.
                    ring.watch_beyond()?;
                    self.starved = ring.available()? == available;
                    if self.starved {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Length of the frame that is in the buffer then.
    fn next_frame(&mut self, host: &mut Host<'_, '_>) -> Option<usize> {
        if let Some(len) = self.waiting.take() {
            return Some(len);
        }
        // Bounded, as frames that are dropped count like others.
        for _ in 0..BATCH_MAX {
            match self.wire.receive(&mut self.buffer[HEADER_BYTES..]) {
                Received::Frame(len) if len >= FRAME_HEADER_BYTES => return Some(len),
                Received::Frame(_) | Received::TooLong => count(&self.counters.rx_dropped),
                Received::Nothing => return None,
                Received::End => {
                    self.wire.cut(host);
                    return None;
                }
            }
        }
        None
    }

    /// Changes to the wire that has come, if one has.
    fn change_wire(&mut self, host: &mut Host<'_, '_>) -> bool {
        let Some(socket) = self.wire_next.take() else {
            return false;
        };
        self.wire.cut(host);
        self.wire = Wire::new(Some(socket));
        self.waiting = None;
        true
    }

    /// What there is to hear from the wire now.
    fn wanted(&self) -> EventSet {
        let mut set = EventSet::empty();
        if !self.starved {
            set |= READABLE;
        }
        if self.wire.is_full() {
            set |= WRITABLE;
        }
        set
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtioDevice for Net {
    fn id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        let bits = [
            VIRTIO_NET_F_CSUM,
            VIRTIO_NET_F_GUEST_CSUM,
            VIRTIO_NET_F_MAC,
            VIRTIO_NET_F_MRG_RXBUF,
            VIRTIO_NET_F_MTU,
        ];
        bits.iter().fold(0, |features, bit| features | 1 << bit)
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn handle(
        &mut self,
        event: DeviceEvent,
        rings: &mut Rings<'_>,
        host: &mut Host<'_, '_>,
    ) -> Result<Progress, DeviceError> {
        let (mut read, mut write) = (false, true);
        match event {
            DeviceEvent::Host { set, .. } => {
                read = set.intersects(READABLE);
                write = self.wire.is_full() && set.intersects(WRITABLE);
                if write {
                    self.wire.has_room();
                }
            }
            // Unless the driver has been waited for, the wire tells by itself what it has.
            DeviceEvent::Queue(queue) => {
                read = if self.starved {
                    queue == RX
                } else {
                    self.waiting.is_some()
                };
                write = queue == TX;
            }
            DeviceEvent::Started | DeviceEvent::Stopped => {}
        }
        write |= self.change_wire(host);
        let before = rings.ring(RX).map(|ring| ring.used());
        if read {
            let was_full = self.wire.is_full();
            self.receive(rings, host)?;
            // What waited for a wire that has ended waits for nothing.
            write |= was_full && !self.wire.is_full();
        }
        let more = write && self.transmit(rings)?;
        let interrupting = rings.ring(RX).map(|ring| ring.used()) != before;
        self.held.give_back(rings, interrupting)?;
        rings.interrupt_for(&[RX, TX])?;
        self.wire.watch(self.wanted(), host)?;
        let left = self.waiting.is_some() && !self.starved;
        // Either notification leads to what is in the buffer.
        Ok(match (more, left) {
            (true, _) => Progress::MoreOn(TX),
            (false, true) => Progress::MoreOn(RX),
            (false, false) => Progress::Done,
        })
    }

    fn due(&self) -> Option<(Instant, usize)> {
        self.held.until.map(|until| (until, TX))
    }

    fn handle_idle(&mut self, _event: DeviceEvent, host: &mut Host<'_, '_>) {
        self.change_wire(host);
        // Nobody could do anything about what it tells. Watching for nothing cannot fail.
        let _ = self.wire.watch(EventSet::empty(), host);
    }

    fn kept(&self) -> Vec<RawFd> {
        use std::os::fd::AsRawFd as _;
        let next = self.wire_next.as_ref().map(|socket| socket.as_raw_fd());
        self.wire.descriptor().into_iter().chain(next).collect()
    }

    fn inherit(&mut self, files: &mut OwnFiles) -> io::Result<()> {
        let socket = files.wire.take().ok_or(io::ErrorKind::NotFound)?;
        // The parent's is closed, and a frame that came on it is the parent's.
        self.wire = Wire::new(Some(socket));
        self.wire_next = None;
        self.waiting = None;
        self.counters.reset();
        Ok(())
    }

    fn replace(&mut self, files: &mut OwnFiles) -> bool {
        let Some(socket) = files.wire.take() else {
            return false;
        };
        self.wire_next = Some(socket);
        true
    }

    fn save(&self, _layer: &File) -> Result<DeviceState, DeviceError> {
        Ok(DeviceState::Net(NetState {
            held: self.held.heads.clone(),
        }))
    }

    fn reset(&mut self) {
        self.waiting = None;
        self.starved = false;
        self.wire.has_room();
        self.held.clear();
    }
}

impl NetCounters {
    fn reset(&self) {
        let Self {
            rx_packets,
            rx_bytes,
            rx_dropped,
            tx_packets,
            tx_bytes,
            tx_dropped,
        } = self;
        for counter in [rx_packets, rx_bytes, rx_dropped, tx_packets, tx_bytes, tx_dropped] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Both ends of a wire.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn count_frame(packets: &AtomicU64, bytes: &AtomicU64, len: usize) {
    count(packets);
    bytes.fetch_add(len as u64, Ordering::Relaxed);
}

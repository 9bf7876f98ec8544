//! The socket device, virtio 1.2 section 5.10: streams between the guest and Unix sockets of the host.
//!
//! ```text
//!   host process ──connect──> <socket>      "CONNECT 1024\n"  ->  guest port 1024   "OK 1073741824\n", then bytes
//!   guest ──connect to CID 2, port 1025──>  <socket>_1025     (reset when nobody listens there)
//! ```
//!
//! A connection the guest refuses is closed without the OK. Files by what they know:
//!
//! * `packet`: the header; `greeting`: the CONNECT line; `connection`: credit, shutdown and violations of one stream,
//!   without any input or output;
//! * `stream`: a connection with its host socket; `mux`: all streams, and whose turn it is; `receive`: what the host sent
//!   on its way into receive buffers; this file: the rings.
//!
//! # What it costs
//! A message from the host takes one wake-up, one system call that reads into the guest's receive buffers, and one
//! interrupt. One to the host takes one notification and one system call. An interrupt is two trapped register
//! accesses for the guest, so used transmit buffers, which no driver waits for as long as they are few and small, are
//! given back together with the next received packet, or when they have become many or large.
//!
//! Linux (since 6.7) answers each message it has read to the end with a packet that tells its credit. It says nothing
//! that matters for a short message, and being told of it costs a VM exit and a wake-up, just while the guest works on the
//! answer. So after a short message the device asks to be told of the second packet only, and looks by itself after
//! [`SECOND_PATIENCE`] in case there is just one.

pub mod connection;
pub mod greeting;
pub mod packet;

mod mux;
mod receive;
mod stream;

use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

use super::device::{DeviceError, DeviceEvent, DeviceState, Host, OwnFiles, Progress, Rings, VirtioDevice};
use super::ring::{Chain, Ring};
use mux::Mux;
use packet::{HEADER_BYTES, Header, Op, PAYLOAD_BYTES_MAX};
use receive::{fetch, put};

/// Address of the host.
pub const HOST_CID: u64 = 2;

/// Most connections at a time, those that have not named a port included.
pub const CONNECTIONS_MAX: usize = 1023;

/// Enough receive buffers (Linux fills the ring with those of 4 KiB) for a burst of 512 KiB.
const QUEUE_SIZE: u16 = 128;
const RX: usize = 0;
const TX: usize = 1;
const EVENTS: usize = 2;

/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET (5.10.6.7), as it lies in an event buffer: the guest's driver ends all
/// connections and asks for its address again. Listening sockets stay.
const EVENT_TRANSPORT_RESET: [u8; 4] = [0; 4];

/// Packets moved in one direction before other devices get their turn.
const BATCH_MAX: usize = 128;

/// Receive buffers filled with one system call, once a first one has been filled to the end.
const BURST_MAX: usize = 16;

/// The part of the transmit ring that is held back at most: a quarter, so that no driver waits for it.
const HELD_PART: u16 = 4;

/// Messages up to this many bytes leave the guest's credit so large that nobody waits for news of it.
const SHORT_BYTES: u64 = 4096;

/// How long a packet may lie that the driver was not asked to tell of. Longer than a short run takes on an emulated CPU,
/// where a look in the middle of it costs a tenth of the run; what is told of late is news of credit that nobody waits for.
/// A guest whose kernel sends no such news (Linux before 6.7) would be heard that much later; ours is newer.
const SECOND_PATIENCE: Duration = Duration::from_millis(25);

/// Bytes held back at most. Linux counts what a socket has sent and not got back against its send buffer, and does not
/// wake a writer that waits for credit while more than half of that is out. That half is 104 KiB, of which one packet
/// of 64 KiB takes 128: held until there is something to receive, it would stop its sender for ever.
const HELD_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Debug)]
pub struct VsockConfig {
    /// The guest's address, 3 or more.
    pub guest_cid: u32,
    /// Where host processes connect. A socket that is there is replaced.
    pub socket: PathBuf,
}

#[derive(Debug, Error)]
pub enum VsockError {
    #[error("guest address {guest_cid} is reserved")]
    GuestCid { guest_cid: u32 },
    #[error("cannot listen on {path}", path = path.display())]
    Listen { path: PathBuf, source: io::Error },
}

/// What the device has done so far. Read by any thread.
#[derive(Debug, Default)]
pub struct VsockCounters {
    /// Payload bytes the guest has received.
    pub rx_bytes: AtomicU64,
    /// Payload bytes the guest has sent.
    pub tx_bytes: AtomicU64,
    pub connections_open: AtomicU64,
}

/// The device.
#[derive(Debug)]
pub struct Vsock {
    mux: Mux,
    config: [u8; 8],
    counters: Arc<VsockCounters>,
    /// Heads of transmit chains that are done with but not given back, and how many descriptors they take up.
    held: Vec<u16>,
    held_descriptors: u16,
    held_bytes: usize,
    cut: Cut,
    /// When to look for a packet the driver does not tell of.
    look_at: Option<Instant>,
}

/// The device in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VsockState {
    port_next: u32,
    held: Vec<u16>,
    held_descriptors: u16,
}

/// Whether the driver knows that all its connections are gone, as they are for a clone. Until it does, it gets no
/// packets: it would take a new connection for one of those to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    None,
    /// It must be told.
    Due,
    /// It was told when this many event buffers had been made available. Linux puts the buffer back as soon as it has
    /// ended its connections.
    Told {
        available: u16,
    },
}

impl Vsock {
    /// # Errors
    /// The address is reserved, or the socket cannot be made.
    pub fn bind(config: VsockConfig) -> Result<Self, VsockError> {
        let VsockConfig {
            guest_cid,
            socket: path,
        } = config;
        if guest_cid <= 2 || guest_cid == u32::MAX {
            return Err(VsockError::GuestCid { guest_cid });
        }
        let listener = match listen(&path) {
            Ok(listener) => listener,
            Err(source) => return Err(VsockError::Listen { path, source }),
        };
        Ok(Self {
            mux: Mux::new(guest_cid, listener, path),
            config: u64::from(guest_cid).to_le_bytes(),
            counters: Arc::default(),
            held: Vec::new(),
            held_descriptors: 0,
            held_bytes: 0,
            cut: Cut::None,
            look_at: None,
        })
    }

    /// The device as it was saved. Its driver is told that all connections are gone.
    ///
    /// # Errors
    /// As of [`Vsock::bind`].
    pub fn restore(config: VsockConfig, state: &VsockState) -> Result<Self, VsockError> {
        let mut vsock = Self::bind(config)?;
        vsock.mux.skip_ports(state.port_next);
        vsock.held.clone_from(&state.held);
        vsock.held_descriptors = state.held_descriptors;
        vsock.cut = Cut::Due;
        Ok(vsock)
    }

    #[must_use]
    pub fn counters(&self) -> Arc<VsockCounters> {
        Arc::clone(&self.counters)
    }

    /// Takes what the guest has sent. True when there may be more.
    fn take_packets(&mut self, rings: &mut Rings<'_>, host: &mut Host<'_, '_>) -> Result<bool, DeviceError> {
        // Also without a ring: one the driver has taken away is not looked at again and again.
        self.look_at = None;
        let Some(mut ring) = rings.ring(TX) else {
            return Ok(false);
        };
        ring.unwatch()?;
        let mut taken = 0;
        loop {
            while taken < BATCH_MAX && self.mux.takes_packets() {
                let Some(chain) = ring.pop()? else { break };
                self.take_packet(&chain, host)?;
                self.held.push(chain.head);
                self.held_descriptors = self.held_descriptors.saturating_add(chain.descriptors);
                self.held_bytes = self.held_bytes.saturating_add(chain.readable.len());
                taken += 1;
            }
            if taken >= BATCH_MAX || !self.mux.takes_packets() {
                return Ok(true);
            }
            if !ring.watch()? {
                return Ok(false);
            }
        }
    }

    fn take_packet(&mut self, chain: &Chain<'_>, host: &mut Host<'_, '_>) -> Result<(), DeviceError> {
        let mut bytes = [0; HEADER_BYTES];
        let len = chain.readable.copy_to(&mut bytes);
        if len < HEADER_BYTES {
            return Err(DeviceError::BufferTooSmall {
                len,
                needed: HEADER_BYTES,
            });
        }
        let header = Header::from_bytes(&bytes);
        let payload = chain.readable.part(HEADER_BYTES, header.len as usize);
        let whole = payload.len() == header.len as usize && header.len <= PAYLOAD_BYTES_MAX;
        self.mux.guest_packet(&header, whole.then_some(&payload), host);
        if whole {
            self.counters
                .tx_bytes
                .fetch_add(header.len.into(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fills receive buffers with what is for the guest. True when there is more and the guest has buffers for it.
    fn give_packets(&mut self, rings: &mut Rings<'_>, host: &mut Host<'_, '_>) -> Result<bool, DeviceError> {
        let Some(mut ring) = rings.ring(RX) else {
            return Ok(false);
        };
        for _ in 0..BATCH_MAX {
            if !self.mux.has_output() {
                return Ok(false);
            }
            if !self.give_turn(&mut ring, host)? && !ring.watch()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives one reply or one stream its turn. False when the guest has no receive buffer for it.
    fn give_turn(&mut self, ring: &mut Ring<'_>, host: &mut Host<'_, '_>) -> Result<bool, DeviceError> {
        if let Some(reply) = self.mux.next_reply() {
            let Some(chain) = ring.pop()? else {
                self.mux.return_reply(reply);
                return Ok(false);
            };
            put(ring, &chain, &reply)?;
            return Ok(true);
        }
        let Some(first) = ring.pop()? else {
            return Ok(false);
        };
        let Some((token, stream)) = self.mux.next_turn() else {
            ring.unpop(1);
            return Ok(true);
        };
        let mut headers = Vec::new();
        let mut ended = false;
        if let Some((op, flags)) = stream.connection.next_control() {
            headers.push((first, stream.header(op, flags, 0)));
            ended = op == Op::Reset;
        } else if stream.wants_to_fetch() {
            headers = fetch(stream, first, ring)?;
        } else {
            ring.unpop(1);
        }
        let mut payload = 0;
        for (chain, mut header) in headers {
            self.mux.address(&mut header);
            payload += u64::from(header.len);
            put(ring, &chain, &header)?;
        }
        self.counters.rx_bytes.fetch_add(payload, Ordering::Relaxed);
        if ended {
            self.mux.end(token, host);
        } else {
            self.mux.end_turn(token);
        }
        Ok(true)
    }

    /// After a message to the guest: true when there are packets to take already. See the top of this file.
    fn expect_answer(&mut self, rings: &mut Rings<'_>) -> Result<bool, DeviceError> {
        let Some(mut ring) = rings.ring(TX) else {
            return Ok(false);
        };
        self.look_at = Some(Instant::now() + SECOND_PATIENCE);
        ring.watch_second()
    }

    /// Tells the driver of a cut, as soon as it has a buffer for that, and sees whether it has taken note.
    fn tell_cut(&mut self, rings: &mut Rings<'_>) -> Result<(), DeviceError> {
        if self.cut == Cut::None {
            return Ok(());
        }
        let Some(mut ring) = rings.ring(EVENTS) else {
            return Ok(());
        };
        while self.cut == Cut::Due {
            if let Some(chain) = ring.pop()? {
                let len = chain.writable.copy_from(&EVENT_TRANSPORT_RESET);
                if len < EVENT_TRANSPORT_RESET.len() {
                    return Err(DeviceError::BufferTooSmall {
                        len,
                        needed: EVENT_TRANSPORT_RESET.len(),
                    });
                }
                let available = ring.available()?;
                ring.push_used(chain.head, u32::try_from(len).unwrap_or(u32::MAX))?;
                self.cut = Cut::Told { available };
            } else if !ring.watch()? {
                return Ok(());
            }
        }
        // Watched before it is looked at, so that no buffer slips through between the two.
        ring.watch_beyond()?;
        if let Cut::Told { available } = self.cut
            && ring.available()? != available
        {
            self.cut = Cut::None;
        }
        Ok(())
    }

    /// Gives used transmit buffers back when the guest is interrupted anyway, or they have become many or large.
    fn give_back(&mut self, rings: &mut Rings<'_>, interrupting: bool) -> Result<(), DeviceError> {
        let large = self.held_bytes > HELD_BYTES_MAX;
        if let Some(mut ring) = rings.ring(TX)
            && (interrupting || large || self.held_descriptors >= ring.size() / HELD_PART)
        {
            for head in self.held.drain(..) {
                ring.push_used(head, 0)?;
            }
            self.held_descriptors = 0;
            self.held_bytes = 0;
        }
        Ok(())
    }
}

impl VirtioDevice for Vsock {
    fn id(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn start(&mut self, host: &mut Host<'_, '_>) -> Result<(), DeviceError> {
        self.mux.watch_listener(host)
    }

    fn handle(
        &mut self,
        event: DeviceEvent,
        rings: &mut Rings<'_>,
        host: &mut Host<'_, '_>,
    ) -> Result<Progress, DeviceError> {
        if let DeviceEvent::Host { token, set } = event {
            self.mux.host_event(token, set, host);
        }
        // What the host does puts nothing on the transmit queue.
        let host_alone = matches!(event, DeviceEvent::Host { .. } | DeviceEvent::Queue(EVENTS));
        let mut more_taken = !host_alone && self.take_packets(rings, host)?;
        self.tell_cut(rings)?;
        let before = rings.ring(RX).map(|ring| ring.used());
        let bytes_before = self.counters.rx_bytes.load(Ordering::Relaxed);
        let more_given = self.cut == Cut::None && self.give_packets(rings, host)?;
        let given = self.counters.rx_bytes.load(Ordering::Relaxed) - bytes_before;
        if host_alone && (1..=SHORT_BYTES).contains(&given) {
            more_taken = self.expect_answer(rings)?;
        }
        let interrupting = rings.ring(RX).map(|ring| ring.used()) != before;
        self.give_back(rings, interrupting)?;
        rings.interrupt_for(&[RX, TX, EVENTS])?;
        self.counters
            .connections_open
            .store(self.mux.connections() as u64, Ordering::Relaxed);
        // With replies waiting for receive buffers, it is the driver that must go on.
        Ok(match (more_taken && self.mux.takes_packets(), more_given) {
            (false, false) => Progress::Done,
            // One notification leads through both queues.
            _ => Progress::MoreOn(TX),
        })
    }

    fn due(&self) -> Option<(Instant, usize)> {
        self.look_at.map(|at| (at, TX))
    }

    fn handle_idle(&mut self, event: DeviceEvent, host: &mut Host<'_, '_>) {
        match event {
            DeviceEvent::Host { token, set } => self.mux.host_event(token, set, host),
            DeviceEvent::Stopped => self.mux.let_leave(host),
            DeviceEvent::Started | DeviceEvent::Queue(_) => {}
        }
    }

    fn save(&self, _layer: &File) -> Result<DeviceState, DeviceError> {
        Ok(DeviceState::Vsock(VsockState {
            port_next: self.mux.port_next(),
            held: self.held.clone(),
            held_descriptors: self.held_descriptors,
        }))
    }

    fn kept(&self) -> Vec<RawFd> {
        self.mux.descriptors()
    }

    fn inherit(&mut self, files: &mut OwnFiles) -> io::Result<()> {
        let listener = files.vsock.take().ok_or(io::ErrorKind::NotFound)?;
        self.mux.inherit(listener)?;
        self.cut = Cut::Due;
        self.counters.reset();
        Ok(())
    }

    fn reset(&mut self) {
        self.mux.reset();
        self.cut = Cut::None;
        self.look_at = None;
        self.held.clear();
        self.held_descriptors = 0;
        self.held_bytes = 0;
        self.counters
            .connections_open
            .store(self.mux.connections() as u64, Ordering::Relaxed);
    }
}

impl VsockCounters {
    fn reset(&self) {
        let Self {
            rx_bytes,
            tx_bytes,
            connections_open,
        } = self;
        for counter in [rx_bytes, tx_bytes, connections_open] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

fn listen(path: &std::path::Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

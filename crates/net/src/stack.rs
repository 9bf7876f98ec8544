//! The guest's side of one TCP connection, ended here by smoltcp.
//!
//! Each connection has an interface and a set of sockets of its own, since a set of smoltcp's is searched from its
//! beginning for every packet: with one for a whole wire, a thousand connections would cost each packet a thousand looks.
//! Frames are brought to the right connection by our own table.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use net_proto::MTU;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Packet, Ipv6Packet, TcpPacket};

use crate::answers::checksums;
use crate::link::{Family, Link};
use crate::packet::number;

pub(crate) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    sent: LastSent,
}

/// Where our side of the connection stands on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastSent {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
}

/// How much of a connection is kept here, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffers {
    pub(crate) from_guest: usize,
    pub(crate) to_guest: usize,
}

impl Buffers {
    pub(crate) const fn kib(from_guest: usize, to_guest: usize) -> Self {
        Self {
            from_guest: from_guest * 1024,
            to_guest: to_guest * 1024,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        self.from_guest + self.to_guest
    }
}

/// The clock of all connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start(now: Instant) -> Self {
        Self(now)
    }

    fn stack(self, now: Instant) -> StackInstant {
        let micros = now.saturating_duration_since(self.0).as_micros();
        StackInstant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

impl Stack {
    /// A connection to `to` that waits for the guest's first segment.
    pub(crate) fn listen(
        to: SocketAddr,
        buffers: Buffers,
        seed: u64,
        clock: Clock,
        now: Instant,
    ) -> Option<Self> {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut Nowhere, clock.stack(now));
        let address = IpAddress::from(to.ip());
        let bits = if to.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| {
            // There is room for two.
            let _ = addresses.push(IpCidr::new(address, bits));
        });
        let mut socket = Socket::new(buffer(buffers.from_guest), buffer(buffers.to_guest));
        // What comes from outside comes in the pieces in which it was sent.
        socket.set_nagle_enabled(false);
        socket.listen((address, to.port())).ok()?;
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(Self {
            interface,
            sockets,
            handle,
            sent: LastSent::default(),
        })
    }

    pub(crate) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub(crate) fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    pub(crate) fn sent(&self) -> LastSent {
        self.sent
    }

    /// Takes a packet of this connection, from its header of IP on.
    pub(crate) fn feed(&mut self, packet: &[u8], link: &mut Link, clock: Clock, now: Instant) {
        let mut port = Port {
            incoming: Some(packet),
            link,
            sent: &mut self.sent,
        };
        self.interface
            .poll_ingress_single(clock.stack(now), &mut port, &mut self.sockets);
    }

    /// Sends what there is to send, as long as the wire takes it.
    pub(crate) fn flush(&mut self, link: &mut Link, clock: Clock, now: Instant) {
        let mut port = Port {
            incoming: None,
            link,
            sent: &mut self.sent,
        };
        let now = clock.stack(now);
        while port.link.has_room() {
            let before = port.link.frames_down;
            self.interface.poll_egress(now, &mut port, &mut self.sockets);
            if port.link.frames_down == before {
                break;
            }
        }
    }

    /// When it has something to send again by itself.
    pub(crate) fn next_at(&mut self, clock: Clock, now: Instant) -> Option<Instant> {
        let delay = self.interface.poll_delay(clock.stack(now), &self.sockets)?;
        Some(now + Duration::from_micros(delay.total_micros()))
    }
}

fn buffer(bytes: usize) -> SocketBuffer<'static> {
    SocketBuffer::new(vec![0; bytes])
}

/// A network card of one packet in, and a wire out.
struct Port<'a> {
    incoming: Option<&'a [u8]>,
    link: &'a mut Link,
    sent: &'a mut LastSent,
}

struct Incoming<'a>(&'a [u8]);

struct Outgoing<'a> {
    link: &'a mut Link,
    sent: &'a mut LastSent,
}

impl Device for Port<'_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: StackInstant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        let outgoing = Outgoing {
            link: self.link,
            sent: self.sent,
        };
        Some((Incoming(packet), outgoing))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Outgoing<'_>> {
        self.link.has_room().then_some(Outgoing {
            link: self.link,
            sent: self.sent,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, use_it: F) -> R {
        use_it(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let sent = self.sent;
        self.link.send_either(len, |packet| {
            let result = fill(packet);
            if let Some((family, now_sent)) = look(packet) {
                *sent = now_sent;
                return (family, result);
            }
            (Family::V4, result)
        })
    }
}

/// Of a packet of our own.
fn look(packet: &[u8]) -> Option<(Family, LastSent)> {
    let (family, header) = match packet.first()? >> 4 {
        4 => (
            Family::V4,
            usize::from(Ipv4Packet::new_checked(packet).ok()?.header_len()),
        ),
        _ => (Family::V6, Ipv6Packet::new_checked(packet).ok()?.header_len()),
    };
    let tcp = TcpPacket::new_checked(packet.get(header..)?).ok()?;
    let sent = LastSent {
        seq: number(tcp.seq_number()),
        ack: number(tcp.ack_number()),
    };
    Some((family, sent))
}

fn capabilities() -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = usize::from(MTU);
    capabilities.checksum = checksums();
    capabilities
}

/// An interface wants to see a card when it is made.
struct Nowhere;

impl Device for Nowhere {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        None
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Outgoing<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

//! A guest: the TCP of smoltcp over the VM's end of a wire.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use net_proto::{
    FRAME_BYTES_MAX, GATEWAY_IPV4, GATEWAY_IPV6, GUEST_IPV4, GUEST_IPV6, GUEST_MAC, PREFIX_BITS_IPV4,
    PREFIX_BITS_IPV6,
};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

/// Longest wait for anything, far beyond what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Guest {
    pub(crate) card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
}

pub(crate) struct Card {
    fd: OwnedFd,
    /// Everything that came, while it is set.
    pub(crate) seen: Option<Vec<Vec<u8>>>,
}

impl Guest {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self::beginning_at_port(fd, 20_000)
    }

    pub(crate) fn beginning_at_port(fd: OwnedFd, next_port: u16) -> Self {
        let mut card = Card { fd, seen: None };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(GUEST_MAC)));
        let mut interface = Interface::new(config, &mut card, now());
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(GUEST_IPV4.into(), PREFIX_BITS_IPV4))
                .unwrap();
            addresses
                .push(IpCidr::new(GUEST_IPV6.into(), PREFIX_BITS_IPV6))
                .unwrap();
        });
        interface
            .routes_mut()
            .add_default_ipv4_route(GATEWAY_IPV4)
            .unwrap();
        interface
            .routes_mut()
            .add_default_ipv6_route(GATEWAY_IPV6)
            .unwrap();
        Self {
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            next_port,
        }
    }

    pub(crate) fn poll(&mut self) {
        self.interface.poll(now(), &mut self.card, &mut self.sockets);
    }

    /// Goes on until something is so.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.poll();
            if holds(self) {
                return;
            }
            assert!(Instant::now() < end, "waited in vain: {what}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Goes on for a time in which nothing is expected.
    pub(crate) fn go_on(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.poll();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Begins a connection.
    pub(crate) fn dial(&mut self, to: SocketAddr) -> SocketHandle {
        self.dial_with(to, 64 * 1024)
    }

    pub(crate) fn dial_with(&mut self, to: SocketAddr, buffer: usize) -> SocketHandle {
        let make = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(make(), make());
        let port = self.next_port;
        self.next_port += 1;
        // A real guest would keep loopback to itself.
        socket
            .connect(self.interface.context(), to, (own(to), port))
            .unwrap();
        self.sockets.add(socket)
    }

    /// A connection that came about.
    #[track_caller]
    pub(crate) fn connect(&mut self, to: SocketAddr) -> SocketHandle {
        let handle = self.dial(to);
        self.until("the connection", |guest| {
            assert!(guest.tcp(handle).is_open(), "refused");
            guest.tcp(handle).may_send()
        });
        handle
    }

    /// Whether a connection is refused.
    #[track_caller]
    pub(crate) fn is_refused(&mut self, to: SocketAddr) -> bool {
        let handle = self.dial(to);
        self.until("a decision", |guest| {
            !guest.tcp(handle).is_open() || guest.tcp(handle).may_send()
        });
        !self.tcp(handle).is_open()
    }

    pub(crate) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    #[track_caller]
    pub(crate) fn send(&mut self, handle: SocketHandle, mut bytes: &[u8]) {
        self.until("room to send", |guest| {
            let sent = guest.tcp(handle).send_slice(bytes).unwrap();
            bytes = &bytes[sent..];
            bytes.is_empty()
        });
        self.poll();
    }

    /// What comes until the end, or `len` bytes.
    #[track_caller]
    pub(crate) fn receive(&mut self, handle: SocketHandle, len: usize) -> Vec<u8> {
        let mut received = Vec::new();
        self.until("data", |guest| {
            let socket = guest.tcp(handle);
            while socket.can_recv() {
                socket
                    .recv(|bytes| {
                        received.extend_from_slice(bytes);
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            received.len() >= len || !guest.tcp(handle).may_recv()
        });
        received
    }

    /// Whether a connection has been reset.
    #[track_caller]
    pub(crate) fn until_reset(&mut self, handle: SocketHandle) {
        self.until("a reset", |guest| guest.tcp(handle).state() == tcp::State::Closed);
    }

    pub(crate) fn udp(&mut self) -> SocketHandle {
        let make = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 256 * 1024]);
        let mut socket = udp::Socket::new(make(), make());
        socket.bind(self.next_port).unwrap();
        self.next_port += 1;
        self.sockets.add(socket)
    }

    /// Puts a datagram on the wire.
    #[track_caller]
    pub(crate) fn send_to(&mut self, handle: SocketHandle, to: SocketAddr, bytes: &[u8]) {
        self.offer_to(handle, to, bytes);
        self.until("a datagram to go", |guest| {
            guest.sockets.get::<udp::Socket<'_>>(handle).send_queue() == 0
        });
    }

    /// The same without waiting for it to go.
    pub(crate) fn offer_to(&mut self, handle: SocketHandle, to: SocketAddr, bytes: &[u8]) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        let mut meta = udp::UdpMetadata::from(to);
        meta.local_address = Some(own(to).into());
        socket.send_slice(bytes, meta).unwrap();
    }

    pub(crate) fn try_receive_from(&mut self, handle: SocketHandle) -> Option<(Vec<u8>, SocketAddr)> {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        let (bytes, from) = socket.recv().ok()?;
        let address: IpAddr = from.endpoint.addr.into();
        Some((bytes.to_vec(), SocketAddr::new(address, from.endpoint.port)))
    }

    #[track_caller]
    pub(crate) fn receive_from(&mut self, handle: SocketHandle) -> (Vec<u8>, SocketAddr) {
        let mut received = None;
        self.until("a datagram", |guest| {
            received = guest.try_receive_from(handle);
            received.is_some()
        });
        received.unwrap()
    }

    /// Gives away what it is, without a word to anybody: what a clone of the machine would have.
    pub(crate) fn on_another_wire(mut self, fd: OwnedFd) -> (Self, OwnedFd) {
        let old = std::mem::replace(&mut self.card.fd, fd);
        (self, old)
    }
}

/// The guest's address of the same family.
fn own(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() {
        GUEST_IPV4.into()
    } else {
        GUEST_IPV6.into()
    }
}

fn now() -> StackInstant {
    StackInstant::now()
}

impl Card {
    pub(crate) fn send_raw(&self, frame: &[u8]) {
        send(&self.fd, frame, SendFlags::empty()).unwrap();
    }

    pub(crate) fn try_receive_raw(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; FRAME_BYTES_MAX + 1];
        let (_, count) = recv(&self.fd, &mut frame[..], RecvFlags::DONTWAIT).ok()?;
        frame.truncate(count);
        Some(frame)
    }
}

pub(crate) struct Frame(Vec<u8>);
pub(crate) struct Wire<'a>(&'a OwnedFd);

impl Device for Card {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Wire<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Frame, Wire<'_>)> {
        let frame = self.try_receive_raw()?;
        assert!(frame.len() <= FRAME_BYTES_MAX);
        if let Some(seen) = &mut self.seen {
            seen.push(frame.clone());
        }
        Some((Frame(frame), Wire(&self.fd)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Wire<'_>> {
        Some(Wire(&self.fd))
    }

    /// As a guest whose card need not be told checksums of TCP, but checks everything else.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, use_it: F) -> R {
        use_it(&self.0)
    }
}

impl TxToken for Wire<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = vec![0; len];
        let result = fill(&mut frame);
        send(self.0, &frame, SendFlags::empty()).unwrap();
        result
    }
}

//! Packets that we make ourselves: who the gateway is, echoes, resets, datagrams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use net_proto::{GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_MAC, GUEST_IPV4, GUEST_IPV6, GUEST_MAC};
use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv4Message, Icmpv4Packet, Icmpv6Message,
    Icmpv6Packet, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use crate::link::{Family, Link};
use crate::packet::{Asker, Segment};

const HOP_LIMIT: u8 = 64;

/// Neighbours' messages are only taken with this.
const HOP_LIMIT_NEIGHBOUR: u8 = 255;

/// Headers of IPv4 always have their sum; what is above it need not, see [`net_proto`].
pub(crate) fn checksums() -> ChecksumCapabilities {
    let mut checksums = ChecksumCapabilities::ignored();
    checksums.ipv4 = Checksum::Tx;
    checksums
}

/// The gateway says that it has its address. It is silent about others, and about the guest's own.
pub(crate) fn who_has(link: &mut Link, target: IpAddr, asker: Asker) {
    match target {
        IpAddr::V4(GATEWAY_IPV4) => arp_reply(link, asker),
        IpAddr::V6(GATEWAY_IPV6) => neighbour_advert(link, asker),
        _ => {}
    }
}

fn arp_reply(link: &mut Link, asker: Asker) {
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(GATEWAY_MAC),
        source_protocol_addr: GATEWAY_IPV4,
        target_hardware_addr: EthernetAddress(GUEST_MAC),
        target_protocol_addr: match asker {
            Asker::Guest => GUEST_IPV4,
            Asker::Probe => Ipv4Addr::UNSPECIFIED,
        },
    };
    link.send(Family::Arp, reply.buffer_len(), |buffer| {
        reply.emit(&mut ArpPacket::new_unchecked(buffer));
    });
}

fn neighbour_advert(link: &mut Link, asker: Asker) {
    /// Type, code, checksum, flags, target, option with the address of the link.
    const LEN: usize = 4 + 4 + 16 + 8;
    // From a router, overriding what was known, and solicited unless nobody in particular asked.
    let (to, flags) = match asker {
        Asker::Guest => (GUEST_IPV6, 0xe0),
        Asker::Probe => (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0xa0),
    };
    let ip = repr(
        GATEWAY_IPV6.into(),
        to.into(),
        IpProtocol::Icmpv6,
        LEN,
        HOP_LIMIT_NEIGHBOUR,
    );
    send_ip(link, &ip, |body| {
        body.fill(0);
        body[0] = 136;
        body[4] = flags;
        body[8..24].copy_from_slice(&GATEWAY_IPV6.octets());
        body[24..26].copy_from_slice(&[2, 1]);
        body[26..].copy_from_slice(&GATEWAY_MAC);
        Icmpv6Packet::new_unchecked(body).fill_checksum(&GATEWAY_IPV6, &to);
    });
}

/// The gateway answers an echo.
pub(crate) fn echo(link: &mut Link, to: IpAddr, message: &[u8]) {
    let len = 4 + message.len();
    match to {
        IpAddr::V4(GATEWAY_IPV4) => {
            let ip = repr(to, GUEST_IPV4.into(), IpProtocol::Icmp, len, HOP_LIMIT);
            send_ip(link, &ip, |body| {
                body[4..].copy_from_slice(message);
                let mut packet = Icmpv4Packet::new_unchecked(body);
                packet.set_msg_type(Icmpv4Message::EchoReply);
                packet.set_msg_code(0);
                packet.fill_checksum();
            });
        }
        IpAddr::V6(GATEWAY_IPV6) => {
            let ip = repr(to, GUEST_IPV6.into(), IpProtocol::Icmpv6, len, HOP_LIMIT);
            send_ip(link, &ip, |body| {
                body[4..].copy_from_slice(message);
                let mut packet = Icmpv6Packet::new_unchecked(body);
                packet.set_msg_type(Icmpv6Message::EchoReply);
                packet.set_msg_code(0);
                packet.fill_checksum(&GATEWAY_IPV6, &GUEST_IPV6);
            });
        }
        _ => {}
    }
}

/// Answers a segment that belongs to no connection, or to one that is refused, as RFC 9293 (3.10.7.1) says.
pub(crate) fn reset(link: &mut Link, segment: &Segment<'_>) {
    if segment.reset {
        return;
    }
    let (seq, ack) = match segment.ack {
        Some(ack) => (ack, None),
        None => (0, Some(segment.seq.wrapping_add(segment.length))),
    };
    bare_segment(link, segment.to, segment.from, TcpControl::Rst, seq, ack);
}

/// Answers a SYN that was held.
pub(crate) fn refuse(link: &mut Link, from: SocketAddr, to: SocketAddr, ack: u32) {
    bare_segment(link, from, to, TcpControl::Rst, 0, Some(ack));
}

/// Makes a guest tell where it stands in a connection: it answers what is out of its window with its own numbers.
pub(crate) fn probe(link: &mut Link, from: SocketAddr, to: SocketAddr, seq: u32, ack: u32) {
    bare_segment(link, from, to, TcpControl::None, seq, Some(ack));
}

fn bare_segment(
    link: &mut Link,
    from: SocketAddr,
    to: SocketAddr,
    control: TcpControl,
    seq: u32,
    ack: Option<u32>,
) {
    let signed = |number: u32| TcpSeqNumber(number.cast_signed());
    let tcp = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control,
        seq_number: signed(seq),
        ack_number: ack.map(signed),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = repr(from.ip(), to.ip(), IpProtocol::Tcp, tcp.buffer_len(), HOP_LIMIT);
    send_ip(link, &ip, |body| {
        let mut packet = TcpPacket::new_unchecked(body);
        tcp.emit(
            &mut packet,
            &from.ip().into(),
            &to.ip().into(),
            &ChecksumCapabilities::ignored(),
        );
    });
}

/// A datagram to the guest. The caller bounds the payload.
pub(crate) fn datagram(link: &mut Link, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let udp = UdpRepr {
        src_port: from.port(),
        dst_port: to.port(),
    };
    let len = udp.header_len() + payload.len();
    let ip = repr(from.ip(), to.ip(), IpProtocol::Udp, len, HOP_LIMIT);
    let mut checksums = ChecksumCapabilities::ignored();
    // With IPv6 a sum of zero does not mean that there is none.
    if from.is_ipv6() {
        checksums.udp = Checksum::Tx;
    }
    send_ip(link, &ip, |body| {
        let mut packet = UdpPacket::new_unchecked(body);
        let fill = |room: &mut [u8]| room.copy_from_slice(payload);
        udp.emit(
            &mut packet,
            &from.ip().into(),
            &to.ip().into(),
            payload.len(),
            fill,
            &checksums,
        );
    });
}

fn repr(from: IpAddr, to: IpAddr, protocol: IpProtocol, len: usize, hop_limit: u8) -> IpRepr {
    IpRepr::new(from.into(), to.into(), protocol, len, hop_limit)
}

fn send_ip(link: &mut Link, ip: &IpRepr, fill: impl FnOnce(&mut [u8])) {
    let family = match ip {
        IpRepr::Ipv4(_) => Family::V4,
        IpRepr::Ipv6(_) => Family::V6,
    };
    link.send(family, ip.buffer_len(), |buffer| {
        ip.emit(&mut *buffer, &checksums());
        fill(&mut buffer[ip.header_len()..]);
    });
}

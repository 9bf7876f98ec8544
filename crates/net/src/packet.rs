//! What a guest's frame is, as far as we answer it. Everything else is dropped.
//!
//! The guest is hostile: lengths are checked whole before anything is used, and only its one address of each family is
//! taken as a sender. Checksums are not looked at, since the guest may leave them to its network card.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use net_proto::{GATEWAY_MAC, GUEST_IPV4, GUEST_IPV6};
use smoltcp::wire::{
    ArpOperation, ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet,
    Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

/// A frame worth an answer.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    /// Who has this address?
    WhoHas(IpAddr, Asker),
    /// An echo request to `to`; `message` is its ICMP message from the identifier on.
    Echo {
        to: IpAddr,
        message: &'a [u8],
    },
    Tcp(Segment<'a>),
    Udp(Datagram<'a>),
}

/// To whom an answer about a neighbour goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    Guest,
    /// It wants to know whether its own address is taken, and has none yet.
    Probe,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) syn: bool,
    pub(crate) reset: bool,
    pub(crate) seq: u32,
    /// Only if it acknowledges.
    pub(crate) ack: Option<u32>,
    /// What it takes of the sequence: payload and flags.
    pub(crate) length: u32,
    /// From the header of IP to the end.
    pub(crate) ip: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) payload: &'a [u8],
}

/// Nothing to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ignored;

type Result<T> = std::result::Result<T, Ignored>;

pub(crate) fn parse(frame: &[u8]) -> Result<Packet<'_>> {
    let ethernet = EthernetFrame::new_checked(frame).map_err(|_| Ignored)?;
    let to = ethernet.dst_addr();
    if to != EthernetAddress(GATEWAY_MAC) && !to.is_broadcast() && !to.is_multicast() {
        return Err(Ignored);
    }
    let payload = frame.get(EthernetFrame::<&[u8]>::header_len()..).ok_or(Ignored)?;
    match ethernet.ethertype() {
        EthernetProtocol::Arp => parse_arp(payload),
        EthernetProtocol::Ipv4 => parse_ipv4(payload),
        EthernetProtocol::Ipv6 => parse_ipv6(payload),
        EthernetProtocol::Unknown(_) => Err(Ignored),
    }
}

fn parse_arp(payload: &[u8]) -> Result<Packet<'_>> {
    const ETHERNET: u16 = 1;
    const IPV4: u16 = 0x0800;
    let arp = ArpPacket::new_checked(payload).map_err(|_| Ignored)?;
    let known = u16::from(arp.hardware_type()) == ETHERNET
        && u16::from(arp.protocol_type()) == IPV4
        && (arp.hardware_len(), arp.protocol_len()) == (6, 4);
    if !known || arp.operation() != ArpOperation::Request {
        return Err(Ignored);
    }
    let address = |bytes: &[u8]| bytes.first_chunk().copied().map(Ipv4Addr::from).ok_or(Ignored);
    let target = address(arp.target_protocol_addr())?;
    let asker = match address(arp.source_protocol_addr())? {
        GUEST_IPV4 => Asker::Guest,
        Ipv4Addr::UNSPECIFIED => Asker::Probe,
        _ => return Err(Ignored),
    };
    Ok(Packet::WhoHas(target.into(), asker))
}

fn parse_ipv4(payload: &[u8]) -> Result<Packet<'_>> {
    let packet = Ipv4Packet::new_checked(payload).map_err(|_| Ignored)?;
    // Nobody here puts fragments together: the guest's path to us is as wide as its packets.
    let fragment = packet.more_frags() || packet.frag_offset() != 0;
    if packet.version() != 4 || fragment || packet.src_addr() != GUEST_IPV4 {
        return Err(Ignored);
    }
    let whole = payload.get(..usize::from(packet.total_len())).ok_or(Ignored)?;
    let body = whole.get(usize::from(packet.header_len())..).ok_or(Ignored)?;
    let ends = Ends {
        from: GUEST_IPV4.into(),
        to: packet.dst_addr().into(),
    };
    match packet.next_header() {
        IpProtocol::Tcp => parse_tcp(ends, whole, body),
        IpProtocol::Udp => parse_udp(ends, body),
        IpProtocol::Icmp => {
            let icmp = Icmpv4Packet::new_checked(body).map_err(|_| Ignored)?;
            let message = body
                .get(4..)
                .filter(|_| icmp.msg_type() == Icmpv4Message::EchoRequest);
            echo(ends.to, message)
        }
        _ => Err(Ignored),
    }
}

fn parse_ipv6(payload: &[u8]) -> Result<Packet<'_>> {
    let packet = Ipv6Packet::new_checked(payload).map_err(|_| Ignored)?;
    if packet.version() != 6 {
        return Err(Ignored);
    }
    let header = packet.header_len();
    let end = header + usize::from(packet.payload_len());
    let whole = payload.get(..end).ok_or(Ignored)?;
    let body = whole.get(header..).ok_or(Ignored)?;
    let from = packet.src_addr();
    if packet.next_header() == IpProtocol::Icmpv6 {
        return parse_icmpv6(from, packet.dst_addr(), body);
    }
    if from != GUEST_IPV6 {
        return Err(Ignored);
    }
    let ends = Ends {
        from: from.into(),
        to: packet.dst_addr().into(),
    };
    // Extension headers come before nothing that we would answer.
    match packet.next_header() {
        IpProtocol::Tcp => parse_tcp(ends, whole, body),
        IpProtocol::Udp => parse_udp(ends, body),
        _ => Err(Ignored),
    }
}

fn parse_icmpv6(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> Result<Packet<'_>> {
    let icmp = Icmpv6Packet::new_checked(body).map_err(|_| Ignored)?;
    match icmp.msg_type() {
        Icmpv6Message::EchoRequest if from == GUEST_IPV6 => echo(to.into(), body.get(4..)),
        Icmpv6Message::NeighborSolicit => {
            let target = body
                .get(8..)
                .and_then(|rest| rest.first_chunk::<16>())
                .ok_or(Ignored)?;
            let asker = match from {
                Ipv6Addr::UNSPECIFIED => Asker::Probe,
                _ => Asker::Guest,
            };
            Ok(Packet::WhoHas(Ipv6Addr::from(*target).into(), asker))
        }
        _ => Err(Ignored),
    }
}

#[derive(Clone, Copy)]
struct Ends {
    from: IpAddr,
    to: IpAddr,
}

fn echo(to: IpAddr, message: Option<&[u8]>) -> Result<Packet<'_>> {
    let message = message.filter(|message| message.len() >= 4).ok_or(Ignored)?;
    Ok(Packet::Echo { to, message })
}

fn parse_tcp<'a>(ends: Ends, whole: &'a [u8], body: &'a [u8]) -> Result<Packet<'a>> {
    let tcp = TcpPacket::new_checked(body).map_err(|_| Ignored)?;
    if tcp.src_port() == 0 || tcp.dst_port() == 0 {
        return Err(Ignored);
    }
    let payload = body.len() - usize::from(tcp.header_len());
    Ok(Packet::Tcp(Segment {
        from: (ends.from, tcp.src_port()).into(),
        to: (ends.to, tcp.dst_port()).into(),
        syn: tcp.syn(),
        reset: tcp.rst(),
        seq: number(tcp.seq_number()),
        ack: tcp.ack().then(|| number(tcp.ack_number())),
        length: u32::try_from(payload).map_err(|_| Ignored)? + u32::from(tcp.syn()) + u32::from(tcp.fin()),
        ip: whole,
    }))
}

fn parse_udp<'a>(ends: Ends, body: &'a [u8]) -> Result<Packet<'a>> {
    let udp = UdpPacket::new_checked(body).map_err(|_| Ignored)?;
    if udp.src_port() == 0 || udp.dst_port() == 0 {
        return Err(Ignored);
    }
    let payload = body.get(8..usize::from(udp.len())).ok_or(Ignored)?;
    Ok(Packet::Udp(Datagram {
        from: (ends.from, udp.src_port()).into(),
        to: (ends.to, udp.dst_port()).into(),
        payload,
    }))
}

/// The library keeps sequence numbers signed, so that they can be compared; on the wire they are not.
pub(crate) fn number(seq: smoltcp::wire::TcpSeqNumber) -> u32 {
    seq.0.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_frames_never_panic(mut frame: Vec<u8>, kind in prop_oneof![Just([8, 0]), Just([8, 6]), Just([0x86, 0xdd])], version in 0..16_u8) {
            drop(parse(&frame));
            frame.splice(0..0, GATEWAY_MAC.into_iter().chain([0; 6]).chain(kind).chain([version << 4 | 5]));
            drop(parse(&frame));
        }
    }
}

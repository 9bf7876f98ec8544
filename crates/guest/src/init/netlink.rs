//! One question at a time to rtnetlink(7): the image need not have a tool for it.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// `NLM_F_REQUEST | NLM_F_ACK` of `linux/netlink.h`.
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
/// `NLM_F_REPLACE | NLM_F_CREATE`: what is there already is not an error.
const MAKE_OR_REPLACE: u16 = 0x100 | 0x400;
/// `NLMSG_ERROR`: the answer, with error 0 for success.
const NLMSG_ERROR: u16 = 2;

/// Kinds of messages, of `linux/rtnetlink.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `IFF_UP` of `linux/if.h`.
const IFF_UP: u32 = 1;

/// Attributes of addresses (`linux/if_addr.h`), neighbours (`linux/neighbour.h`) and routes.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// `IFA_F_NODAD`: nobody else is on the wire, so nobody is asked whether the address is free.
const IFA_F_NODAD: u8 = 2;
/// `NUD_PERMANENT`: it need not be asked for, and is never forgotten.
const NUD_PERMANENT: u16 = 0x80;
const RT_TABLE_MAIN: u8 = 254;
/// `RTPROT_STATIC`, `RT_SCOPE_UNIVERSE`, `RTN_UNICAST`.
const ROUTE_STATIC: [u8; 3] = [4, 0, 1];

/// A connection to the kernel's network configuration.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

/// A request that is being put together; its header is written last.
#[derive(Debug)]
pub(super) struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // NETLINK_ROUTE
        )?;
        Ok(Self(socket))
    }

    /// Has the kernel do it, and returns what it says.
    pub(super) fn ask(&self, message: &Message) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.0, &message.bytes(), SendFlags::empty(), &kernel)?;
        let mut answer = [0; 512];
        let (_, length) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        verdict(&answer[..length.min(answer.len())])
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Message {
    /// Brings an interface up.
    pub(super) fn up(interface: u32) -> Self {
        let mut message = Self::new(RTM_NEWLINK, 0);
        // ifinfomsg: family, padding, type, index, flags, which flags to change.
        message.body.extend([0; 4]);
        message.body.extend(interface.to_ne_bytes());
        message.body.extend(IFF_UP.to_ne_bytes());
        message.body.extend(IFF_UP.to_ne_bytes());
        message
    }

    /// Gives an interface an address, and with it a route to its network.
    pub(super) fn address(interface: u32, address: IpAddr, prefix_bits: u8) -> Self {
        let mut message = Self::new(RTM_NEWADDR, MAKE_OR_REPLACE);
        // ifaddrmsg: family, prefix length, flags, scope, index.
        message
            .body
            .extend([family(address), prefix_bits, IFA_F_NODAD, 0]);
        message.body.extend(interface.to_ne_bytes());
        message.attribute(IFA_LOCAL, &octets(address));
        message.attribute(IFA_ADDRESS, &octets(address));
        message
    }

    /// Says for good which station has an address.
    pub(super) fn neighbour(interface: u32, address: IpAddr, station: [u8; 6]) -> Self {
        let mut message = Self::new(RTM_NEWNEIGH, MAKE_OR_REPLACE);
        // ndmsg: family, padding, index, state, flags, type.
        message.body.extend([family(address), 0, 0, 0]);
        message.body.extend(interface.to_ne_bytes());
        message.body.extend(NUD_PERMANENT.to_ne_bytes());
        message.body.extend([0, 0]);
        message.attribute(NDA_DST, &octets(address));
        message.attribute(NDA_LLADDR, &station);
        message
    }

    /// Sends everything without a route of its own to a gateway.
    pub(super) fn default_route(interface: u32, gateway: IpAddr) -> Self {
        let mut message = Self::new(RTM_NEWROUTE, MAKE_OR_REPLACE);
        // rtmsg: family, lengths of destination and source, type of service, table, protocol, scope, type, flags.
        message.body.extend([family(gateway), 0, 0, 0, RT_TABLE_MAIN]);
        message.body.extend(ROUTE_STATIC);
        message.body.extend([0; 4]);
        message.attribute(RTA_GATEWAY, &octets(gateway));
        message.attribute(RTA_OIF, &interface.to_ne_bytes());
        message
    }

    fn new(kind: u16, flags: u16) -> Self {
        Self {
            kind,
            flags: flags | REQUEST_WITH_ANSWER,
            body: Vec::new(),
        }
    }

    /// Adds a `struct rtattr`; the next begins at a multiple of four.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.body.extend(length.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    fn bytes(&self) -> Vec<u8> {
        // nlmsghdr: length, type, flags, sequence, port.
        let length = u32::try_from(16 + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(&self.body);
        bytes
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// Reads `struct nlmsgerr`: a header, then a negative errno or zero.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let kind = answer
        .get(4..6)
        .and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
    let error = answer
        .get(16..20)
        .and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Err(io::Error::other("the kernel's answer is not understood")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_length_it_says_and_answers_are_understood() {
        assert_eq!(Message::up(1).bytes().len(), 32);
        let route = Message::default_route(2, [10, 0, 0, 1].into()).bytes();
        assert_eq!(route.len(), 16 + 12 + 8 + 8);
        assert_eq!(route[..4], 44_u32.to_ne_bytes());
        // Six bytes of an address take up eight.
        let neighbour = Message::neighbour(2, [10, 0, 0, 1].into(), [1; 6]).bytes();
        assert_eq!(neighbour.len(), 16 + 12 + 8 + 4 + 8);
        let mut answer = [0_u8; 36];
        answer[4] = 2;
        assert!(verdict(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(verdict(&answer).unwrap_err().raw_os_error(), Some(1));
        assert!(verdict(&answer[..7]).is_err());
    }
}

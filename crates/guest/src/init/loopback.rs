//! Brings the loopback interface up, by one rtnetlink(7) message: the image need not have a tool for it.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// `RTM_NEWLINK` of `linux/rtnetlink.h`; on an existing interface it changes flags.
const RTM_NEWLINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK` of `linux/netlink.h`.
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
/// `NLMSG_ERROR`: the answer, with error 0 for success.
const NLMSG_ERROR: u16 = 2;
/// The loopback interface is the first of every network namespace.
const LOOPBACK_INDEX: i32 = 1;
/// `IFF_UP` of `linux/if.h`.
const IFF_UP: u32 = 1;
/// `struct nlmsghdr` and `struct ifinfomsg`, 16 bytes each.
const MESSAGE_BYTES: u32 = 32;

pub(super) fn up() -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // NETLINK_ROUTE
    )?;
    sendto(
        &socket,
        &message(),
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let mut answer = [0; 256];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
    verdict(&answer[..length.min(answer.len())])
}

fn message() -> Vec<u8> {
    let mut message = Vec::new();
    // nlmsghdr: length, type, flags, sequence, port.
    message.extend(MESSAGE_BYTES.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend([0; 8]);
    // ifinfomsg: family, padding, type, index, flags, which flags to change.
    message.extend([0; 4]);
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message
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
    fn the_message_has_the_length_it_says_and_answers_are_understood() {
        assert_eq!(message().len(), 32);
        let mut answer = [0_u8; 36];
        answer[4] = 2;
        assert!(verdict(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(verdict(&answer).unwrap_err().raw_os_error(), Some(1));
        assert!(verdict(&answer[..7]).is_err());
    }
}

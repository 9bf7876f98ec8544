//! Ports: what listens in the guest, and connections to it.
//!
//! ```text
//! host                                    agent
//!  │ List                                   │
//!  │                       Listening(ports) │
//!  │ Connect{port}                          │
//!  │                                  Done  │   a program of the guest has taken the connection
//!  │ ░░░░░░░░░░░░░░░ bytes ░░░░░░░░░░░░░░░░ │   no frames any more: each side's end is the end of the other's
//! ```
//!
//! After that `Done` the connection carries the program's bytes as they are, both ways, until both sides have ended; it is
//! never used for another request. The transport shuts down each direction on its own and holds up whoever sends too
//! much, so nothing is to be framed. Until then a connection that is refused is free again.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::frame::Direction;
use crate::message::{Decoded, MessageError, empty, framed, packed, unpacked};

/// Most sockets in one [`PortReply::Listening`].
pub const LISTENING_MAX: usize = 256;

/// Longest name of a command, in bytes: Linux keeps 15.
pub const COMMAND_BYTES_MAX: usize = 64;

/// What of a request is longest: kind of enumeration and a port.
const REQUEST_BODY_MAX: usize = 16;

/// What the host asks of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRequest {
    /// Answered with [`PortReply::Listening`].
    List,
    /// Answered with [`crate::Reply::Done`], after which the connection is the program's; or with
    /// [`crate::Reply::Failed`]: [`crate::FailureCode::NotFound`] when nothing listens there,
    /// [`crate::FailureCode::Busy`] when what listens does not take the connection in time.
    Connect { port: u16 },
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortReply {
    /// By port and address; at most [`LISTENING_MAX`].
    Listening(Vec<Listening>),
}

/// A TCP socket that waits for connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    pub address: IpAddr,
    pub port: u16,
    /// A process that has it, where one was found.
    pub process: Option<Listener>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub pid: u32,
    /// As the kernel knows it, which is as the process calls itself; at most [`COMMAND_BYTES_MAX`] bytes.
    pub command: String,
}

mod kind {
    pub(super) const LIST: u8 = 52;
    pub(super) const CONNECT: u8 = 53;

    pub(super) const LISTENING: u8 = 116;
}

impl PortRequest {
    /// Kinds of frames that are requests of ports.
    pub(crate) const KINDS: std::ops::RangeInclusive<u8> = 52..=55;

    pub(crate) fn encode(self) -> Decoded<Vec<u8>> {
        let from = Direction::HostToGuest;
        match self {
            Self::List => framed(kind::LIST, &[], from),
            Self::Connect { port } => packed(kind::CONNECT, &port, from),
        }
    }

    pub(crate) fn decode(kind: u8, body: &[u8]) -> Decoded<Self> {
        if body.len() > REQUEST_BODY_MAX {
            let (len, max) = (body.len(), REQUEST_BODY_MAX);
            return Err(MessageError::TooLong { kind, len, max });
        }
        Ok(match kind {
            kind::LIST => empty(body).map(|()| Self::List)?,
            kind::CONNECT => Self::Connect {
                port: unpacked(kind, body)?,
            },
            unknown => return Err(MessageError::UnknownKind(unknown)),
        })
    }
}

impl PortReply {
    /// Kinds of frames that are replies of ports.
    pub(crate) const KINDS: std::ops::RangeInclusive<u8> = 116..=119;

    pub(crate) fn encode(&self) -> Decoded<Vec<u8>> {
        match self {
            Self::Listening(ports) => packed(kind::LISTENING, ports, Direction::GuestToHost),
        }
    }

    pub(crate) fn decode(kind: u8, body: &[u8]) -> Decoded<Self> {
        match kind {
            kind::LISTENING => unpacked(kind, body).map(Self::Listening),
            unknown => Err(MessageError::UnknownKind(unknown)),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Every message of ports survives the wire.

    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::{HEADER_LEN, Header, Reply, Request};

    fn split(frame: &[u8], from: Direction) -> (u8, Vec<u8>) {
        let header = Header::decode(frame[..HEADER_LEN].try_into().unwrap(), from).unwrap();
        (header.kind, frame[HEADER_LEN..].to_vec())
    }

    fn request() -> impl Strategy<Value = PortRequest> {
        prop_oneof![
            Just(PortRequest::List),
            any::<u16>().prop_map(|port| PortRequest::Connect { port }),
        ]
    }

    fn listening() -> impl Strategy<Value = Listening> {
        let address = prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        ];
        let process = proptest::option::of((any::<u32>(), ".{0,20}"));
        (address, any::<u16>(), process).prop_map(|(address, port, process)| Listening {
            address,
            port,
            process: process.map(|(pid, command)| Listener { pid, command }),
        })
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(request in request()) {
            let request = Request::Port(request);
            let (kind, body) = split(&request.encode().unwrap(), Direction::HostToGuest);
            prop_assert!(PortRequest::KINDS.contains(&kind));
            prop_assert_eq!(Request::decode(kind, &body).unwrap(), request);
        }

        #[test]
        fn replies_survive_the_wire(ports in proptest::collection::vec(listening(), 0..20)) {
            let reply = Reply::Port(PortReply::Listening(ports));
            let (kind, body) = split(&reply.encode().unwrap(), Direction::GuestToHost);
            prop_assert!(PortReply::KINDS.contains(&kind));
            prop_assert_eq!(Reply::decode(kind, body).unwrap(), reply);
        }
    }

    #[test]
    fn a_full_list_of_the_longest_entries_fits_into_a_frame() {
        let longest = Listening {
            address: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
            port: u16::MAX,
            process: Some(Listener {
                pid: u32::MAX,
                command: "x".repeat(COMMAND_BYTES_MAX),
            }),
        };
        let full = PortReply::Listening(vec![longest; LISTENING_MAX]);
        assert!(Reply::Port(full).encode().is_ok());
    }

    #[test]
    fn a_request_with_more_than_a_port_is_refused() {
        for body in [&[0_u8; REQUEST_BODY_MAX + 1][..], &[1, 0, 0]] {
            assert!(PortRequest::decode(kind::CONNECT, body).is_err());
        }
    }
}

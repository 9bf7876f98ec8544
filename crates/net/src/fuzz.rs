//! The bodies of the fuzz targets, which also run for a bounded time in the ordinary tests.

use std::os::fd::OwnedFd;

use egress::{Policy, Ranges};
use net_proto::FRAME_BYTES_MAX;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::dns::{self, Hosts, Resolver, Servers};
use crate::head::name_in_head;
use crate::hello::{Said, name_in_hello};
use crate::poll::Poll;
use crate::share::BUFFER_BYTES_MAX;
use crate::wire::Wire;
use crate::world::{Room, World};

/// Arbitrary bytes as DNS messages.
pub fn fuzz_dns(data: &[u8]) {
    dns::fuzz(data);
}

/// Arbitrary bytes as the beginning of a connection: a decision does not change when more bytes come.
///
/// # Panics
/// When it does; that is what fuzzing looks for.
pub fn fuzz_first_bytes(data: &[u8]) {
    for look in [name_in_hello, name_in_head] {
        let whole = look(data);
        let half = look(&data[..data.len() / 2]);
        assert!(
            half == Said::Unfinished || half == whole,
            "{half:?} became {whole:?}"
        );
    }
}

/// Arbitrary frames on a wire of which nothing reaches the outside: each is two bytes of length and then itself.
///
/// # Panics
/// When a guest gets a frame that is longer than it may be, or the host has no descriptors left.
pub fn fuzz_frames(mut data: &[u8]) {
    let Some((mut wire, theirs, mut world)) = rig() else {
        return;
    };
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (frame, rest) = rest.split_at(len);
        data = rest;
        // An empty frame would be an end.
        if !frame.is_empty() && send(&theirs, frame, SendFlags::DONTWAIT).is_err() {
            return;
        }
        wire.turn(&mut buffer, &mut world);
        while let Ok((_, count)) = recv(&theirs, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            assert!(count <= FRAME_BYTES_MAX, "a frame of {count} bytes");
        }
    }
    wire.close(&mut world);
    assert_eq!(world.buffer_bytes, 0, "a connection kept its buffers");
}

/// A list that needs names lets guests speak, and connects them nowhere.
fn rig() -> Option<(Wire, OwnedFd, World)> {
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::NONBLOCK,
        None,
    );
    let (ours, theirs) = pair.ok()?;
    let resolver = Resolver::new(Servers::fixed(Vec::new()), Hosts::new(None));
    let room = Room {
        sockets: 0,
        buffer_bytes: BUFFER_BYTES_MAX,
    };
    let mut world = World::new(Poll::new().ok()?, resolver, Ranges::default(), room);
    let list = egress::List {
        allow: vec!["*.example".parse().ok()?],
        deny: Vec::new(),
    };
    let policy = Policy::List(Box::new(list));
    let wire = Wire::new(1, 0, ours, policy, &mut world);
    Some((wire, theirs, world))
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_proto::{GATEWAY_IPV4, GATEWAY_MAC, GUEST_IPV4};
    use proptest::prelude::*;

    prop_compose! {
        /// Something like a packet of the guest's: arbitrary ones would hardly ever be understood.
        fn frame()(
            protocol in prop_oneof![Just(1_u8), Just(6), Just(17)],
            to in prop_oneof![Just(GATEWAY_IPV4.octets()), Just([1, 1, 1, 1])],
            ports in (1..4_u16, prop_oneof![Just(53_u16), Just(443)]),
            flags in prop_oneof![Just(0x5002_u16), Just(0x5010), Just(0x5018), Just(0x5011), Just(0x5004), any::<u16>()],
            numbers: (u32, u32),
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) -> Vec<u8> {
            let mut body = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
            if protocol == 6 {
                body.extend((numbers.0 % 4).to_be_bytes());
                body.extend((numbers.1 % 4).to_be_bytes());
                body.extend(flags.to_be_bytes());
                body.extend([0xff, 0xff, 0, 0, 0, 0]);
            }
            if protocol == 17 {
                body.extend(u16::try_from(8 + rest.len()).unwrap().to_be_bytes());
                body.extend([0, 0]);
            }
            body.extend(rest);
            let len = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
            let ip = [0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, protocol, 0, 0];
            let frame: Vec<u8> = GATEWAY_MAC.into_iter().chain([0; 6]).chain([8, 0]).chain(ip).collect();
            [&frame[..], &GUEST_IPV4.octets(), &to, &body].concat()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_guest_may_send_whatever_it_likes(frames in prop::collection::vec(prop_oneof![frame(), prop::collection::vec(any::<u8>(), 1..64)], 1..24)) {
            let data: Vec<u8> = frames
                .iter()
                .flat_map(|frame| [&u16::try_from(frame.len()).unwrap().to_le_bytes()[..], frame].concat())
                .collect();
            fuzz_frames(&data);
        }

        #[test]
        fn first_bytes_may_be_anything(bytes: Vec<u8>, name in "[a-z.]{0,20}", cut in 0..200_usize) {
            fuzz_first_bytes(&bytes);
            let mut hello = crate::hello::hello_for(Some(name.as_bytes()), 7);
            hello.truncate(cut);
            fuzz_first_bytes(&hello);
            let head = format!("GET /{name} HTTP/1.1\r\nHost: {name}\r\n\r\n");
            fuzz_first_bytes(head.as_bytes());
        }
    }
}

//! UDP.

use std::net::UdpSocket;
use std::time::Duration;

use egress::Policy;
use net_proto::Protocol;

use crate::daemon::open_loopback;
use crate::outside::{noise, udp_echo};

#[test]
fn datagrams_come_back_from_whom_they_were_sent_to_over_ipv4_and_ipv6() {
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    for to in [udp_echo("127.0.0.1:0"), udp_echo("[::1]:0")] {
        let socket = guest.udp();
        for len in [0, 1, 1400, 9000] {
            let data = noise(len);
            guest.send_to(socket, to, &data);
            assert_eq!(guest.receive_from(socket), (data, to), "{len}");
        }
        let log = daemon.log(1);
        let entry = log.last().unwrap();
        assert_eq!(
            (entry.protocol, entry.bytes_up, entry.bytes_down),
            (Protocol::Udp, 10_401, 10_401)
        );
    }
}

#[test]
fn only_the_one_who_was_sent_to_can_answer() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    let socket = guest.udp();
    guest.send_to(socket, server.local_addr().unwrap(), b"hello");
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    stranger.send_to(b"forged", from).unwrap();
    server.send_to(b"real", from).unwrap();
    assert_eq!(guest.receive_from(socket).0, b"real");
    guest.go_on(Duration::from_millis(200));
    assert_eq!(guest.try_receive_from(socket), None);
}

#[test]
fn flows_are_bounded_and_the_oldest_gives_way() {
    let to = udp_echo("127.0.0.1:0");
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    for _ in 0..600 {
        let socket = guest.udp();
        guest.send_to(socket, to, b"x");
        assert_eq!(guest.receive_from(socket).0, b"x");
    }
    let counters = daemon.counters(1);
    assert_eq!((counters.udp_open, counters.udp_flows), (512, 600));
}

//! Guests that want too much.

use std::net::SocketAddr;

use egress::Policy;
use net_proto::{GATEWAY_MAC, GUEST_IPV4, GUEST_MAC};
use serde_json::json;

use crate::daemon::{Daemon, loopback, open_loopback, policy};
use crate::guest::Guest;
use crate::outside::echo;

#[test]
fn a_thousand_connections_at_once_come_about_and_work() {
    let to = echo("127.0.0.1:0");
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    let connections: Vec<_> = (0..1000).map(|_| guest.dial_with(to, 4096)).collect();
    guest.until("all connections", |guest| {
        connections
            .iter()
            .all(|connection| guest.tcp(*connection).may_send())
    });
    for connection in &connections {
        guest.tcp(*connection).send_slice(&[7; 1000]).unwrap();
    }
    guest.until("all echoes", |guest| {
        connections
            .iter()
            .all(|connection| guest.tcp(*connection).recv_queue() == 1000)
    });
    assert_eq!(daemon.counters(1).tcp_open, 1000);
}

/// A SYN from a port of the guest's to somewhere.
fn syn(port: u16, to: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(to) = to else { panic!() };
    let mut frame = [
        &GATEWAY_MAC[..],
        &GUEST_MAC,
        &[8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0],
    ]
    .concat();
    frame.extend(GUEST_IPV4.octets());
    frame.extend(to.ip().octets());
    frame.extend(port.to_be_bytes());
    frame.extend(to.port().to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

fn flood(guest: &Guest, to: SocketAddr) {
    for round in 0..3_u16 {
        for port in 1..=20_000_u16 {
            guest
                .card
                .send_raw(&syn(port.wrapping_add(round * 20_000).max(1), to));
            while guest.card.try_receive_raw().is_some() {}
        }
    }
}

#[test]
fn a_flood_of_syns_is_bounded_and_others_are_served() {
    let to = echo("127.0.0.1:0");
    let mut daemon = open_loopback(None);
    let mut other = daemon.guest(2, Policy::Open);
    // To somebody who answers, and to a name that is never said.
    for (wire, rules) in [(1, json!(true)), (3, json!({"allow": ["good.example"]}))] {
        let flooder = daemon.guest(wire, policy(rules));
        flood(&flooder, to);
        let connection = other.connect(to);
        other.send(connection, b"on");
        assert_eq!(other.receive(connection, 2), b"on");
        let counters = daemon.counters(wire);
        assert!(counters.tcp_open <= 1024, "{counters:?}");
        assert!(counters.dropped > 10_000, "{counters:?}");
    }
}

#[test]
fn a_guest_that_takes_all_the_memory_it_gets_leaves_others_as_much() {
    let to = echo("127.0.0.1:0");
    let mut daemon = Daemon::start_with_buffers(loopback(), 4 << 20);
    let mut greedy = daemon.guest(1, Policy::Open);
    let mut other = daemon.guest(2, Policy::Open);
    let connections: Vec<_> = (0..200).map(|_| greedy.dial_with(to, 4096)).collect();
    greedy.until("each has come about or was refused", |guest| {
        connections
            .iter()
            .all(|connection| guest.tcp(*connection).may_send() || !guest.tcp(*connection).is_open())
    });
    let refused = daemon.counters(1).failed;
    assert!(refused > 100, "{refused} were refused");
    let log = daemon.log(1);
    assert!(
        log.iter()
            .any(|entry| entry.reason.as_deref().is_some_and(|why| why.contains("memory"))),
        "{log:?}"
    );
    for _ in 0..8 {
        let connection = other.connect(to);
        other.send(connection, b"on");
        assert_eq!(other.receive(connection, 2), b"on");
    }
    // What is given back can be taken again.
    for connection in connections {
        greedy.tcp(connection).abort();
    }
    let connection = greedy.connect(to);
    greedy.send(connection, b"again");
    assert_eq!(greedy.receive(connection, 5), b"again");
}

//! Policies without names, and changes of them.

use std::time::Duration;

use egress::{Policy, Ranges};
use net_proto::{Command, GATEWAY_IPV4, GATEWAY_MAC, GUEST_IPV4, GUEST_MAC, Outcome, Verdict};
use serde_json::json;

use crate::daemon::{Daemon, open_loopback, policy};
use crate::outside::{echo, udp_echo};

#[test]
fn an_open_wire_reaches_neither_this_host_nor_private_nets_nor_metadata() {
    let here = echo("127.0.0.1:0");
    let here_v6 = echo("[::1]:0");
    let mut daemon = Daemon::start(Ranges::default(), None);
    let mut guest = daemon.guest(1, Policy::Open);
    for to in [
        here.to_string(),
        here_v6.to_string(),
        format!("[::ffff:127.0.0.1]:{}", here.port()),
        format!("[64:ff9b::7f00:1]:{}", here.port()),
        format!("0.0.0.1:{}", here.port()),
        "10.0.2.2:22".to_owned(),
        "192.168.1.1:80".to_owned(),
        "169.254.169.254:80".to_owned(),
        "[fd00:ec2::254]:80".to_owned(),
        "100.100.100.200:80".to_owned(),
        // The gateway serves names only.
        "10.211.0.1:80".to_owned(),
    ] {
        let to = to.parse().unwrap();
        assert!(guest.is_refused(to), "{to}");
        let log = daemon.log(1);
        let entry = log.last().unwrap();
        assert_eq!(entry.verdict, Verdict::Denied, "{to}");
    }
    let counters = daemon.counters(1);
    assert_eq!((counters.denied, counters.tcp_flows), (11, 0));
}

#[test]
fn a_closed_wire_is_silent() {
    let to = echo("127.0.0.1:0");
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Closed);
    guest.card.seen = Some(Vec::new());
    let connection = guest.dial(to);
    let socket = guest.udp();
    guest.offer_to(socket, udp_echo("127.0.0.1:0"), b"anybody?");
    guest.go_on(Duration::from_secs(2));
    assert_eq!(guest.card.seen.as_ref().unwrap().len(), 0);
    assert!(!guest.tcp(connection).may_send());
    let counters = daemon.counters(1);
    assert!(counters.dropped == counters.frames_up && counters.frames_up > 0 && counters.frames_down == 0);

    // Once it is opened, what the guest sends again gets through.
    daemon.set_policy(1, Policy::Open);
    guest.until("the connection", |guest| guest.tcp(connection).may_send());
}

#[test]
fn a_change_of_policy_ends_what_it_no_longer_allows_and_nothing_else() {
    let (stays, goes) = (echo("127.0.0.1:0"), echo("127.0.0.2:0"));
    let udp = udp_echo("127.0.0.2:0");
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    let (kept, ended) = (guest.connect(stays), guest.connect(goes));
    let socket = guest.udp();
    guest.send_to(socket, udp, b"one");
    assert_eq!(guest.receive_from(socket), (b"one".to_vec(), udp));

    daemon.set_policy(1, policy(json!({"allow": ["127.0.0.1"]})));
    assert_eq!(daemon.counters(1).tcp_open, 1);
    assert_eq!(daemon.counters(1).udp_open, 0);
    guest.until_reset(ended);
    guest.send(kept, b"on");
    assert_eq!(guest.receive(kept, 2), b"on");
    guest.send_to(socket, udp, b"two");
    guest.go_on(Duration::from_millis(300));
    assert_eq!(guest.try_receive_from(socket), None);
    assert!(guest.is_refused(goes));

    daemon.set_policy(1, Policy::Closed);
    guest.until_reset(kept);
}

#[test]
fn the_gateway_answers_who_it_is_and_echoes() {
    let mut daemon = open_loopback(None);
    let guest = daemon.guest(1, Policy::Open);
    let ask = |frame: &[u8]| {
        guest.card.send_raw(frame);
        let mut answer = None;
        for _ in 0..10_000 {
            answer = guest.card.try_receive_raw();
            if answer.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        answer.unwrap()
    };
    let arp = [
        &[0xff; 6][..],
        &GUEST_MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &GUEST_MAC,
        &GUEST_IPV4.octets(),
        &[0; 6],
        &GATEWAY_IPV4.octets(),
    ]
    .concat();
    let answer = ask(&arp);
    assert_eq!((&answer[..6], &answer[6..12]), (&GUEST_MAC[..], &GATEWAY_MAC[..]));
    assert_eq!(
        (&answer[20..22], &answer[22..28]),
        (&[0, 2][..], &GATEWAY_MAC[..])
    );

    let mut echo = [
        &GATEWAY_MAC[..],
        &GUEST_MAC,
        &[8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 1, 0, 0],
    ]
    .concat();
    echo.extend(GUEST_IPV4.octets());
    echo.extend(GATEWAY_IPV4.octets());
    echo.extend([8, 0, 0, 0, 1, 2, 3, 4, b'p', b'i', b'n', b'g']);
    let answer = ask(&echo);
    assert_eq!(
        (answer[34], &answer[38..]),
        (0, &[1, 2, 3, 4, b'p', b'i', b'n', b'g'][..])
    );
}

#[test]
fn wires_outlive_the_daemon_and_end_with_their_guest() {
    let to = echo("127.0.0.1:0");
    let mut daemon = open_loopback(None);
    let (mut one, two) = (daemon.guest(1, Policy::Open), daemon.guest(7, Policy::Closed));
    let connection = one.connect(to);
    daemon.reconnect();
    assert_eq!(daemon.ask(Command::Hello), Outcome::Welcome { wires: vec![1, 7] });
    one.send(connection, b"on");
    assert_eq!(one.receive(connection, 2), b"on");
    drop(two);
    one.until("the other wire's end", |_| {
        daemon.ask(Command::Hello) == Outcome::Welcome { wires: vec![1] }
    });
    let gone = Command::SetPolicy {
        wire: 7,
        policy: Policy::Open,
    };
    assert_eq!(daemon.ask(gone), Outcome::NoWire);
    assert_eq!(daemon.ask(Command::Detach { wire: 7 }), Outcome::Done);
}

//! What a list of names lets through, and every way around it.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use net_proto::{LogEntry, Verdict};
use serde_json::json;
use smoltcp::iface::SocketHandle;

use crate::daemon::{Daemon, open_loopback, policy};
use crate::guest::Guest;
use crate::names::resolve;
use crate::outside::{Names, echo, serve, speaks_first, udp_echo};

/// Where nobody is: a list of names needs no address of a guest's.
const ELSEWHERE: &str = "203.0.113.77";

fn elsewhere(port: u16) -> SocketAddr {
    SocketAddr::new(ELSEWHERE.parse().unwrap(), port)
}

/// A ClientHello for a name.
fn hello(name: &str) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let entry = [&[0][..], &with_length(name.as_bytes())].concat();
    let extension = [&[0, 0][..], &with_length(&with_length(&entry))].concat();
    let mut body = [&[3, 3][..], &[9; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    body.extend(with_length(&extension));
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1, len[1], len[2], len[3]][..], &body].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

fn request(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

struct Rig {
    names: Names,
    daemon: Daemon,
    guest: Guest,
    /// Of a server that is `good.example`.
    port: u16,
}

fn rig() -> Rig {
    let port = echo("127.0.0.1:0").port();
    let names = Names::default();
    names.set("good.example", &["127.0.0.1"]);
    names.set("bad.example", &["127.0.0.1"]);
    let mut daemon = open_loopback(Some(names.serve()));
    let guest = daemon.guest(1, policy(json!({"allow": ["good.example"]})));
    Rig {
        names,
        daemon,
        guest,
        port,
    }
}

impl Rig {
    /// Says something on a connection to nowhere in particular.
    #[track_caller]
    fn say(&mut self, bytes: &[u8]) -> SocketHandle {
        let connection = self.guest.connect(elsewhere(self.port));
        self.guest.send(connection, bytes);
        connection
    }

    #[track_caller]
    fn is_reset_after(&mut self, bytes: &[u8]) -> LogEntry {
        let connection = self.say(bytes);
        self.guest.until_reset(connection);
        self.daemon.log(1).pop().unwrap()
    }
}

#[test]
fn a_name_that_is_proven_is_connected_to_wherever_the_guest_thought_it_was() {
    let mut rig = rig();
    for bytes in [
        hello("good.example"),
        request("good.example"),
        request("GOOD.example:443"),
    ] {
        let connection = rig.say(&bytes);
        assert_eq!(rig.guest.receive(connection, bytes.len()), bytes);
        let entry = rig.daemon.log(1).pop().unwrap();
        assert_eq!(entry.name.as_deref(), Some("good.example"));
        assert_eq!(entry.address, Some([127, 0, 0, 1].into()));
    }
    assert_eq!(rig.daemon.counters(1).denied, 0);
}

#[test]
fn a_name_in_pieces_is_put_together() {
    let mut rig = rig();
    let bytes = hello("good.example");
    let connection = rig.guest.connect(elsewhere(rig.port));
    for piece in bytes.chunks(7) {
        rig.guest.send(connection, piece);
        rig.guest.go_on(Duration::from_millis(5));
    }
    assert_eq!(rig.guest.receive(connection, bytes.len()), bytes);
}

#[test]
fn other_names_and_no_names_are_reset_and_logged() {
    let mut rig = rig();
    for (bytes, name) in [
        (hello("bad.example"), Some("bad.example")),
        (request("bad.example"), Some("bad.example")),
        (request("sub.good.example"), Some("sub.good.example")),
        (hello("127.0.0.1"), None),
        (request("127.0.0.1"), None),
        (b"SSH-2.0-anything\r\n".to_vec(), None),
        (
            b"GET / HTTP/1.1\r\nHost: good.example\r\nHost: bad.example\r\n\r\n".to_vec(),
            None,
        ),
        (
            b"GET http://bad.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n".to_vec(),
            None,
        ),
        (vec![0; 40_000], None),
    ] {
        let entry = rig.is_reset_after(&bytes[..bytes.len().min(2000)]);
        assert_eq!(
            (entry.verdict, entry.name.as_deref()),
            (Verdict::Denied, name),
            "{entry:?}"
        );
    }
    assert!(!rig.names.asked().contains(&"bad.example.".to_owned()));
    assert_eq!(rig.daemon.counters(1).bytes_up, 0);
}

#[test]
fn an_address_alone_opens_nothing_even_that_of_an_allowed_name() {
    let mut rig = rig();
    resolve(&mut rig.guest, "good.example");
    let connection = rig.guest.connect(SocketAddr::from(([127, 0, 0, 1], rig.port)));
    rig.guest.send(connection, &request("bad.example"));
    rig.guest.until_reset(connection);
    // Over IPv6 neither.
    let connection = rig
        .guest
        .connect(SocketAddr::new("2001:db8::1".parse().unwrap(), rig.port));
    rig.guest.send(connection, &request("bad.example"));
    rig.guest.until_reset(connection);
}

#[test]
fn udp_and_another_resolver_are_not_reached() {
    let mut rig = rig();
    let (quic, dns) = (udp_echo("127.0.0.1:0"), rig.names.serve());
    for to in [quic, dns] {
        let socket = rig.guest.udp();
        let question = crate::names::question("bad.example", hickory_proto::rr::RecordType::A);
        rig.guest.send_to(socket, to, &question);
        rig.guest.go_on(Duration::from_millis(300));
        assert_eq!(rig.guest.try_receive_from(socket), None);
    }
    assert_eq!(rig.names.asked(), Vec::<String>::new());
    // Over TCP it would have to say a name first.
    let connection = rig.guest.connect(dns);
    rig.guest.send(connection, &[0, 30, 7, 7, 1, 0, 0, 1]);
    rig.guest.until_reset(connection);
}

#[test]
fn a_name_that_turns_to_a_private_address_is_not_followed() {
    let mut rig = rig();
    let bytes = hello("good.example");
    let connection = rig.say(&bytes);
    assert_eq!(rig.guest.receive(connection, 1).len(), bytes.len());
    rig.names.set("good.example", &["10.0.0.1", "169.254.169.254"]);
    let entry = rig.is_reset_after(&bytes);
    assert_eq!(entry.verdict, Verdict::Denied, "{entry:?}");
    assert!(entry.reason.unwrap().contains("leads to an address"));
    rig.names.set("good.example", &[]);
    assert_eq!(rig.is_reset_after(&bytes).verdict, Verdict::Failed);
}

#[test]
fn who_says_nothing_is_reset_in_the_end() {
    let mut rig = rig();
    let connection = rig.guest.connect(elsewhere(rig.port));
    rig.guest.until_reset(connection);
    assert_eq!(rig.daemon.log(1).pop().unwrap().verdict, Verdict::Denied);
}

#[test]
fn a_port_of_its_own_lets_the_server_speak_first_but_no_other_name_be_said() {
    let to = speaks_first("127.0.0.1:0", b"SSH-2.0-server\r\n");
    let names = Names::default();
    names.set("git.example", &["127.0.0.1"]);
    let mut daemon = open_loopback(Some(names.serve()));
    let rule = format!("git.example:{}", to.port());
    let mut guest = daemon.guest(1, policy(json!({"allow": [rule]})));
    assert_eq!(resolve(&mut guest, "git.example").1, ["127.0.0.1"]);
    let connection = guest.connect(to);
    assert_eq!(guest.receive(connection, 16), b"SSH-2.0-server\r\n");
    guest.send(connection, b"SSH-2.0-client\r\n");
    assert_eq!(guest.receive(connection, 16), b"SSH-2.0-client\r\n");
    let connection = guest.connect(to);
    guest.send(connection, &hello("bad.example"));
    guest.until_reset(connection);
    // An address that was never told for it has to be proven, which this cannot.
    let connection = guest.connect(elsewhere(to.port()));
    guest.send(connection, b"SSH-2.0-client\r\n");
    guest.until_reset(connection);
}

#[test]
fn a_network_rule_opens_addresses_and_ports_and_deny_wins() {
    let (one, two) = (echo("127.0.0.1:0"), echo("127.0.0.2:0"));
    let udp = udp_echo("127.0.0.1:0");
    let mut daemon = open_loopback(None);
    let rules = json!({"allow": ["127.0.0.0/8"], "deny": ["127.0.0.2"]});
    let mut guest = daemon.guest(1, policy(rules));
    let connection = guest.connect(one);
    guest.send(connection, b"x");
    assert_eq!(guest.receive(connection, 1), b"x");
    assert!(guest.is_refused(two));
    let socket = guest.udp();
    guest.send_to(socket, udp, b"y");
    assert_eq!(guest.receive_from(socket).0, b"y");
    let port = one.port();
    daemon.set_policy(1, policy(json!({"allow": [format!("127.0.0.1:{port}")]})));
    assert!(guest.is_refused(SocketAddr::from(([127, 0, 0, 1], port ^ 1))));
    guest.connect(one);
}

#[test]
fn a_change_of_names_ends_connections_that_were_allowed_by_one() {
    let mut rig = rig();
    let bytes = request("good.example");
    let connection = rig.say(&bytes);
    assert_eq!(rig.guest.receive(connection, bytes.len()), bytes);
    rig.daemon
        .set_policy(1, policy(json!({"allow": ["good.example", "other.example"]})));
    rig.guest.send(connection, b"on");
    assert_eq!(rig.guest.receive(connection, 2), b"on");
    rig.daemon
        .set_policy(1, policy(json!({"allow": ["other.example"]})));
    rig.guest.until_reset(connection);
}

#[test]
fn what_a_guest_said_before_it_was_connected_is_not_lost() {
    let to = serve("127.0.0.1:0", |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let names = Names::default();
    names.set("good.example", &["127.0.0.1"]);
    let mut daemon = open_loopback(Some(names.serve()));
    let mut guest = daemon.guest(1, policy(json!({"allow": ["good.example"]})));
    let bytes = [&request("good.example")[..], &[b'x'; 10_000]].concat();
    let connection = guest.connect(elsewhere(to.port()));
    guest.send(connection, &bytes);
    guest.tcp(connection).close();
    assert!(guest.receive(connection, usize::MAX) == bytes);
}

//! IPv6 to an outside that is another machine as far as the kernel can tell: two network namespaces and a cable.
//!
//! Loopback shows little of it: it is reached by nobody unless it is opened, has no neighbours that are to be found, and no
//! routes that are not there. Only root can make namespaces; for others these tests do nothing and say so.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use egress::{Policy, Ranges};
use net_proto::{LogEntry, Protocol, Verdict};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};
use serde_json::json;

use crate::daemon::{Daemon, policy};
use crate::outside::{Names, echo, noise, udp_echo};

/// Of a network for documentation, which is as public as any to us: the network process's side, and the outside's.
const NEAR: &str = "2001:db8:77::1";
const FAR: &str = "2001:db8:77::2";
/// Nobody, on the cable and beyond.
const ABSENT: &str = "2001:db8:77::99";
const NOWHERE: &str = "2001:db8:88::1";
/// Of a private network on the same cable.
const NEAR_PRIVATE: &str = "fd00:77::1";
const FAR_PRIVATE: &str = "fd00:77::2";

/// The servers at the other end of the cable.
struct Outside {
    tcp: SocketAddr,
    other_tcp: SocketAddr,
    udp: SocketAddr,
    private: SocketAddr,
    /// Nobody listens there.
    closed: SocketAddr,
}

/// Runs a test where the only way out is a cable, at whose other end the servers are.
#[expect(
    clippy::print_stdout,
    reason = "whoever runs the tests has to learn what was not tried"
)]
fn with_outside(test: impl FnOnce(&Outside) + Send + 'static) {
    // A thread that has left its namespace does not come back; those that it starts are where it is.
    let inside = thread::spawn(move || match lay_cable() {
        Some(outside) => test(&outside),
        None => println!("skipped: laying a cable takes root's rights, `ip`, and a kernel with veth"),
    });
    if let Err(panic) = inside.join() {
        std::panic::resume_unwind(panic);
    }
}

fn lay_cable() -> Option<Outside> {
    unshare(CloneFlags::CLONE_NEWNET).ok()?;
    let (tell_thread, thread_told) = mpsc::channel::<Option<Pid>>();
    let (plug, plugged) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let left = unshare(CloneFlags::CLONE_NEWNET).ok().map(|()| gettid());
        tell_thread.send(left).unwrap();
        if plugged.recv().is_ok() && bring_up("pf-far", [FAR, FAR_PRIVATE]) {
            tell.send(serve()).unwrap();
        }
    });
    let other = thread_told.recv().ok()??;
    let is_laid = ip("link add pf-near type veth peer name pf-far")
        && ip(&format!("link set pf-far netns {other}"))
        && bring_up("pf-near", [NEAR, NEAR_PRIVATE]);
    plug.send(()).ok().filter(|()| is_laid)?;
    told.recv().ok()
}

/// Nobody else is there who could have an address, so none is asked.
fn bring_up(link: &str, addresses: [&str; 2]) -> bool {
    ip("link set lo up")
        && ip(&format!("link set {link} up"))
        && addresses
            .iter()
            .all(|address| ip(&format!("-6 addr add {address}/64 dev {link} nodad")))
}

fn ip(arguments: &str) -> bool {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    done.is_ok_and(|done| done.status.success())
}

fn serve() -> Outside {
    let on = |address: &str| format!("[{address}]:0");
    let closed = std::net::TcpListener::bind(on(FAR))
        .unwrap()
        .local_addr()
        .unwrap();
    Outside {
        tcp: echo(&on(FAR)),
        other_tcp: echo(&on(FAR)),
        udp: udp_echo(&on(FAR)),
        private: echo(&on(FAR_PRIVATE)),
        closed,
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

fn of(log: &[LogEntry], to: SocketAddr) -> &LogEntry {
    let entry = log
        .iter()
        .rev()
        .find(|entry| entry.address == Some(to.ip()) && entry.port == to.port());
    entry.unwrap_or_else(|| panic!("{to} is not in {log:#?}"))
}

#[test]
fn what_is_public_is_reached_by_default_over_a_cable_with_small_packets() {
    with_outside(|outside| {
        let mut daemon = Daemon::start(Ranges::default(), None);
        let mut guest = daemon.guest(1, Policy::Open);
        // The guest's packets have 16 KiB and the cable's 1500 bytes, so connections have to end here.
        let connection = guest.connect(outside.tcp);
        let data = noise(1_000_000);
        let mut received = Vec::new();
        for piece in data.chunks(50_000) {
            guest.send(connection, piece);
            received.extend(guest.receive(connection, piece.len()));
        }
        assert!(received == data, "the data came back changed");
        let datagrams = guest.udp();
        for len in [0, 1, 1400, 9000] {
            let data = noise(len);
            guest.send_to(datagrams, outside.udp, &data);
            assert_eq!(guest.receive_from(datagrams), (data, outside.udp), "{len}");
        }
        let log = daemon.log(1);
        let entry = of(&log, outside.tcp);
        assert_eq!(
            (entry.protocol, entry.verdict, entry.bytes_up, entry.bytes_down),
            (Protocol::Tcp, Verdict::Allowed, 1_000_000, 1_000_000)
        );
        let entry = of(&log, outside.udp);
        assert_eq!((entry.protocol, entry.bytes_up), (Protocol::Udp, 10_401));
    });
}

#[test]
fn who_cannot_be_reached_is_a_refusal_and_the_log_says_why() {
    with_outside(|outside| {
        let mut daemon = Daemon::start(Ranges::default(), None);
        let mut guest = daemon.guest(1, Policy::Open);
        // By the other side, for want of a route, and for want of a neighbour.
        for to in [outside.closed, at(NOWHERE, 443), at(ABSENT, 443)] {
            assert!(guest.is_refused(to), "{to}");
            let log = daemon.log(1);
            let entry = of(&log, to);
            assert_eq!(entry.verdict, Verdict::Failed, "{entry:?}");
            assert!(entry.reason.is_some(), "{entry:?}");
        }
        let connection = guest.connect(outside.tcp);
        guest.send(connection, b"still");
        assert_eq!(guest.receive(connection, 5), b"still");
    });
}

#[test]
fn private_networks_and_the_hosts_own_addresses_are_for_those_who_may() {
    with_outside(|outside| {
        let own = echo(&format!("[{NEAR}]:0"));
        let mut daemon = Daemon::start(Ranges::default(), None);
        let mut guest = daemon.guest(1, Policy::Open);
        for to in [
            outside.private,
            own,
            at(NEAR_PRIVATE, own.port()),
            at("::1", own.port()),
            at("fe80::1", own.port()),
            // IPv4 in IPv6: a private address, and the metadata service of clouds through a translator.
            at("::ffff:10.0.0.1", 80),
            at("64:ff9b::a9fe:a9fe", 80),
        ] {
            assert!(guest.is_refused(to), "{to}");
            let log = daemon.log(1);
            assert_eq!(of(&log, to).verdict, Verdict::Denied, "{to}");
        }
        let rules = json!({"allow": [outside.private.to_string(), "2001:db8:77::/64"]});
        let mut listed = daemon.guest(2, policy(rules));
        for to in [outside.private, outside.tcp, outside.other_tcp] {
            let connection = listed.connect(to);
            listed.send(connection, b"on");
            assert_eq!(listed.receive(connection, 2), b"on");
        }
        let mut one = daemon.guest(3, policy(json!({"allow": [outside.tcp.to_string()]})));
        assert!(one.is_refused(outside.other_tcp));
        assert!(one.is_refused(outside.private));
        let connection = one.connect(outside.tcp);
        // What is taken away ends, over IPv6 too.
        daemon.set_policy(3, Policy::Closed);
        one.until_reset(connection);
    });
}

#[test]
fn a_name_that_is_allowed_is_connected_to_by_its_own_address_whatever_the_guest_says() {
    with_outside(|outside| {
        let names = Names::default();
        names.set("six.example", &[FAR]);
        names.set("inner.example", &[FAR_PRIVATE]);
        let mut daemon = Daemon::start(Ranges::default(), Some(names.serve()));
        let rules = json!({"allow": ["six.example", "inner.example"]});
        let mut guest = daemon.guest(1, policy(rules));
        let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        // The address is nobody's; the name has one that answers.
        let connection = guest.connect(at(ABSENT, outside.tcp.port()));
        guest.send(connection, &request("six.example"));
        let said = request("six.example");
        assert_eq!(guest.receive(connection, said.len()), said);
        let log = daemon.log(1);
        let entry = of(&log, outside.tcp);
        assert_eq!(
            (entry.name.as_deref(), entry.verdict),
            (Some("six.example"), Verdict::Allowed)
        );
        // One that leads to a private address, and one that is not allowed.
        for host in ["inner.example", "other.example"] {
            let connection = guest.connect(at(FAR, outside.tcp.port()));
            guest.send(connection, &request(host));
            guest.until_reset(connection);
        }
    });
}

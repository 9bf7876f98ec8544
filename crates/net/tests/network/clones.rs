//! A clone has its parent's connections, and must lose them; the parent must not.

use egress::Policy;

use crate::daemon::open_loopback;
use crate::guest::Guest;
use crate::outside::{Names, echo};

#[test]
fn inherited_connections_are_reset_in_the_clone_alone() {
    let to = echo("127.0.0.1:0");
    let mut daemon = open_loopback(None);
    let mut parent = daemon.guest(1, Policy::Open);
    let (busy, idle) = (parent.connect(to), parent.connect(to));
    for connection in [busy, idle] {
        parent.send(connection, b"before");
        assert_eq!(parent.receive(connection, 6), b"before");
    }
    // The clone is the guest as it stands, on another wire. What the parent does meanwhile it does on the wire of its own,
    // here by another guest's hand with other ports.
    let fd = daemon.attach_bare(2, Policy::Open, Some(1));
    let (mut child, parents_end) = parent.on_another_wire(fd);
    child.tcp(busy).send_slice(b"from the clone").unwrap();
    child.until_reset(busy);
    child.until_reset(idle);
    let connection = child.connect(to);
    child.send(connection, b"anew");
    assert_eq!(child.receive(connection, 4), b"anew");

    assert_eq!(daemon.counters(1).tcp_open, 2);
    let mut parent = Guest::beginning_at_port(parents_end, 40_000);
    let connection = parent.connect(to);
    parent.send(connection, b"on");
    assert_eq!(parent.receive(connection, 2), b"on");
}

#[test]
fn a_clone_of_a_closed_wire_is_probed_once_it_is_opened() {
    let to = echo("127.0.0.1:0");
    let mut daemon = open_loopback(None);
    let mut parent = daemon.guest(1, Policy::Open);
    let idle = parent.connect(to);
    let fd = daemon.attach_bare(2, Policy::Closed, Some(1));
    let (mut child, _parents_end) = parent.on_another_wire(fd);
    child.card.seen = Some(Vec::new());
    child.go_on(std::time::Duration::from_millis(300));
    assert!(child.card.seen.as_ref().unwrap().is_empty());
    daemon.set_policy(2, Policy::Open);
    child.until_reset(idle);
}

#[test]
fn a_wire_that_replaces_another_keeps_its_log_and_resets_its_connections() {
    let names = Names::default();
    let to = echo("127.0.0.1:0");
    let mut daemon = open_loopback(Some(names.serve()));
    let mut guest = daemon.guest(1, Policy::Open);
    let idle = guest.connect(to);
    let fd = daemon.attach_bare(1, Policy::Open, None);
    let (mut guest, _old) = guest.on_another_wire(fd);
    guest.until_reset(idle);
    guest.connect(to);
    assert_eq!(daemon.log(1).len(), 2);
    assert_eq!(daemon.counters(1).tcp_flows, 2);
}

//! Connections as such: data, ends, refusals.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use egress::Policy;
use net_proto::{Protocol, Verdict};

use crate::daemon::open_loopback;
use crate::outside::{echo, nobody, noise, serve};

#[test]
fn much_data_comes_back_as_it_was_sent_over_ipv4_and_ipv6() {
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    for on in ["127.0.0.1:0", "[::1]:0"] {
        let to = echo(on);
        let connection = guest.connect(to);
        let data = noise(5_000_000);
        let (mut unsent, mut received) = (&data[..], Vec::new());
        guest.until("all data", |guest| {
            let socket = guest.tcp(connection);
            if socket.can_send() && !unsent.is_empty() {
                let sent = socket.send_slice(unsent).unwrap();
                unsent = &unsent[sent..];
            }
            while socket.can_recv() {
                let take = |bytes: &mut [u8]| {
                    received.extend_from_slice(bytes);
                    (bytes.len(), ())
                };
                socket.recv(take).unwrap();
            }
            received.len() == data.len()
        });
        assert!(received == data, "the data came back changed");
        let log = daemon.log(1);
        let entry = log.last().unwrap();
        assert_eq!((entry.address, entry.port), (Some(to.ip()), to.port()));
        assert_eq!((entry.bytes_up, entry.bytes_down), (5_000_000, 5_000_000));
        assert_eq!(
            (entry.protocol, entry.verdict, entry.open),
            (Protocol::Tcp, Verdict::Allowed, true)
        );
    }
    assert_eq!(daemon.counters(1).bytes_up, 10_000_000);
}

#[test]
fn a_guest_that_reads_slowly_slows_the_sender_and_gets_everything() {
    let (told, sent) = mpsc::channel();
    let to = serve("127.0.0.1:0", move |mut stream| {
        let mut total = 0;
        for piece in noise(64 * 1024 * 1024).chunks(64 * 1024) {
            if stream.write_all(piece).is_err() {
                break;
            }
            total += piece.len();
            let _ = told.send(total);
        }
    });
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    let connection = guest.connect(to);
    // It takes nothing: what the network and the kernels keep fills up, and it stops.
    let mut before = 0;
    guest.until("the sender to stop", |guest| {
        guest.go_on(Duration::from_millis(500));
        let now = sent.try_iter().last().unwrap_or(before);
        std::mem::replace(&mut before, now) == now
    });
    assert!(before < 32 * 1024 * 1024, "{before} bytes are kept somewhere");
    let received = guest.receive(connection, usize::MAX);
    assert!(
        received == noise(64 * 1024 * 1024),
        "{} bytes, or others",
        received.len()
    );
}

#[test]
fn each_side_may_finish_before_the_other() {
    let to = serve("127.0.0.1:0", |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    let connection = guest.connect(to);
    guest.send(connection, b"abc");
    guest.tcp(connection).close();
    assert_eq!(guest.receive(connection, usize::MAX), b"cba");

    // The other way round.
    let to = serve("127.0.0.1:0", |mut stream| {
        stream.write_all(b"hello").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"bye");
    });
    let connection = guest.connect(to);
    assert_eq!(guest.receive(connection, usize::MAX), b"hello");
    guest.send(connection, b"bye");
    guest.tcp(connection).close();
    guest.until("its end", |guest| !guest.tcp(connection).is_active());
    guest.until("nothing to be left", |_| daemon.counters(1).tcp_open == 0);
    assert!(daemon.log(1).iter().all(|entry| !entry.open));
}

#[test]
fn a_reset_goes_through_both_ways() {
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();

    let connection = guest.connect(to);
    let (mut stream, _) = listener.accept().unwrap();
    guest.tcp(connection).abort();
    guest.go_on(Duration::from_millis(100));
    stream.set_read_timeout(Some(crate::guest::PATIENCE)).unwrap();
    let end = stream.read(&mut [0; 16]).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));

    let connection = guest.connect(to);
    let (stream, _) = listener.accept().unwrap();
    guest.send(connection, b"unread");
    let peek = |stream: &TcpStream| stream.peek(&mut [0; 16]).unwrap();
    assert_eq!(peek(&stream), 6);
    drop(stream);
    guest.until_reset(connection);
    guest.until("nothing to be left", |_| daemon.counters(1).tcp_open == 0);
}

#[test]
fn what_nobody_serves_is_refused_and_the_log_says_so() {
    let (_held, to) = nobody();
    let mut daemon = open_loopback(None);
    let mut guest = daemon.guest(1, Policy::Open);
    assert!(guest.is_refused(to));
    let log = daemon.log(1);
    let entry = log.last().unwrap();
    assert_eq!((entry.verdict, entry.open), (Verdict::Failed, false));
    assert!(entry.reason.as_ref().unwrap().contains("refused"), "{entry:?}");
    assert_eq!((daemon.counters(1).failed, daemon.counters(1).denied), (1, 0));
}

#[test]
fn a_segment_of_no_connection_is_answered_by_a_reset() {
    let mut daemon = open_loopback(None);
    let mut first = daemon.guest(1, Policy::Open);
    let connection = first.connect(echo("127.0.0.1:0"));
    // The network forgets the wire, and the guest comes back on a new one.
    daemon.ask(net_proto::Command::Detach { wire: 1 });
    let fd = daemon.attach_bare(2, Policy::Open, None);
    let (mut again, _old) = first.on_another_wire(fd);
    again.tcp(connection).send_slice(b"still there?").unwrap();
    again.until_reset(connection);
}

//! Guests that break the rules.

use super::*;

#[test]
fn a_guest_that_ignores_credit_is_reset() {
    let mut sockets = Sockets::new();
    let (_stream, end) = sockets.connected();
    // More than the socket's buffer and ours together.
    for _ in 0..40 {
        sockets.send(&end.header(Op::Data, 60_000), &[0; 60_000]);
    }
    let reset = wait_for("the reset", || {
        sockets
            .try_receive()
            .map(|(header, _)| header)
            .filter(|header| header.op == Op::Reset as u16)
    });
    assert_eq!(reset.dst_port, end.guest_port);
    sockets.wait_for_no_connections();
}

#[test]
fn packets_that_fit_nothing_are_answered_with_a_reset() {
    let mut sockets = Sockets::new();
    let stray = Header {
        src_port: 1,
        dst_port: 2,
        ..to_host()
    };
    for packet in [
        Header {
            op: Op::Data as u16,
            ..stray
        },
        Header {
            op: Op::Response as u16,
            ..stray
        },
        Header { op: 77, ..stray },
        Header {
            op: Op::Request as u16,
            dst_cid: 5,
            ..stray
        },
    ] {
        sockets.send(&packet, &[]);
        let reset = sockets.expect(Op::Reset);
        assert_eq!(
            (reset.src_cid, reset.src_port, reset.dst_port),
            (packet.dst_cid, 2, 1)
        );
    }
    // No answer to a reset, nor to somebody else's address.
    sockets.send(
        &Header {
            op: Op::Reset as u16,
            ..stray
        },
        &[],
    );
    sockets.send(
        &Header {
            op: Op::Data as u16,
            src_cid: 4,
            ..stray
        },
        &[],
    );
    sockets.expect_nothing();
}

#[test]
fn a_packet_shorter_than_it_says_ends_the_connection() {
    let mut sockets = Sockets::new();
    let (mut stream, end) = sockets.connected();
    sockets.send(&end.header(Op::Data, 100), &[1; 99]);
    sockets.expect(Op::Reset);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

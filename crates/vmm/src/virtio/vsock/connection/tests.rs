//! Behaviour of a connection towards a guest that keeps the rules, and towards one that does not.

use proptest::prelude::*;

use super::super::packet::{Header, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM};
use super::*;

fn packet(op: Op) -> Header {
    Header {
        kind: TYPE_STREAM,
        op: op as u16,
        buf_alloc: 1000,
        ..Header::default()
    }
}

fn data(len: u32) -> Header {
    Header {
        len,
        ..packet(Op::Data)
    }
}

fn shutdown(flags: u32) -> Header {
    Header {
        flags,
        ..packet(Op::Shutdown)
    }
}

fn open() -> Connection {
    let mut connection = Connection::asked_by_guest(&packet(Op::Request));
    assert_eq!(connection.next_control(), Some((Op::Response, 0)));
    connection
}

#[test]
fn a_connection_from_the_host_opens_with_the_response() {
    let mut connection = Connection::asked_by_host();
    assert_eq!(connection.room(), 0);
    assert_eq!(connection.next_control(), Some((Op::Request, 0)));
    assert_eq!(connection.receive(&packet(Op::Response)), Received::Accepted);
    assert_eq!(connection.room(), 1000);
    assert_eq!(connection.next_control(), None);
}

#[test]
fn a_response_nobody_asked_for_ends_the_connection() {
    for mut connection in [Connection::asked_by_host(), open()] {
        assert_eq!(connection.receive(&packet(Op::Response)), Received::Violation);
        assert_eq!(connection.next_control(), Some((Op::Reset, 0)));
    }
}

#[test]
fn the_guest_is_never_sent_more_than_it_can_buffer() {
    let mut connection = open();
    connection.send(1000);
    assert_eq!(connection.room(), 0);
    connection.ask_for_room();
    connection.ask_for_room();
    assert_eq!(connection.next_control(), Some((Op::CreditRequest, 0)));
    assert_eq!(connection.next_control(), None);
    let update = Header {
        fwd_cnt: 400,
        ..packet(Op::CreditUpdate)
    };
    assert_eq!(connection.receive(&update), Received::Credit);
    assert_eq!(connection.room(), 400);
}

#[test]
fn a_guest_that_took_more_than_it_was_sent_is_reset() {
    let mut connection = open();
    connection.send(10);
    assert_eq!(
        connection.receive(&Header {
            fwd_cnt: 11,
            ..packet(Op::CreditUpdate)
        }),
        Received::Violation
    );
}

#[test]
fn a_guest_that_sends_more_than_it_has_credit_for_is_reset() {
    let mut connection = open();
    assert_eq!(connection.receive(&data(BUFFER_BYTES)), Received::Data);
    assert_eq!(connection.receive(&data(1)), Received::Violation);
    assert_eq!(connection.next_control(), Some((Op::Reset, 0)));
}

#[test]
fn a_guest_low_on_credit_is_told_of_freed_space_and_others_are_not() {
    let mut connection = open();
    assert_eq!(connection.receive(&data(1000)), Received::Data);
    connection.forward(1000);
    assert_eq!(connection.next_control(), None);
    assert_eq!(connection.receive(&data(BUFFER_BYTES - 1000)), Received::Data);
    connection.forward(1000);
    assert_eq!(connection.next_control(), Some((Op::CreditUpdate, 0)));
    let mut header = Header::default();
    connection.stamp(&mut header);
    assert_eq!((header.buf_alloc, header.fwd_cnt), (BUFFER_BYTES, 2000));
}

#[test]
fn a_guest_that_is_done_gets_its_reset_after_its_last_byte_is_out() {
    let mut connection = open();
    assert_eq!(connection.receive(&data(5)), Received::Data);
    assert_eq!(
        connection.receive(&shutdown(SHUTDOWN_SEND | SHUTDOWN_RECEIVE)),
        Received::Shutdown
    );
    assert_eq!(connection.next_control(), None);
    connection.forward(5);
    assert_eq!(connection.next_control(), Some((Op::Reset, 0)));
}

#[test]
fn each_direction_is_shut_down_on_its_own() {
    let mut connection = open();
    assert_eq!(connection.receive(&shutdown(SHUTDOWN_SEND)), Received::Shutdown);
    assert_eq!(connection.room(), 1000);
    assert_eq!(connection.receive(&data(1)), Received::Violation);

    let mut connection = open();
    connection.host_sends_no_more();
    assert_eq!(connection.next_control(), Some((Op::Shutdown, SHUTDOWN_SEND)));
    assert_eq!(connection.receive(&data(1)), Received::Data);
    connection.host_receives_no_more();
    assert_eq!(
        connection.next_control(),
        Some((Op::Shutdown, SHUTDOWN_SEND | SHUTDOWN_RECEIVE))
    );
    assert_eq!(connection.next_control(), None);
}

#[test]
fn nothing_is_sent_after_a_reset() {
    let mut connection = open();
    connection.send(1000);
    connection.ask_for_room();
    assert_eq!(connection.receive(&packet(Op::Reset)), Received::Reset);
    assert_eq!((connection.next_control(), connection.room()), (None, 0));
    assert_eq!(connection.receive(&data(1)), Received::Violation);
    assert_eq!(connection.next_control(), None);
}

proptest! {
    /// A guest that keeps to the credit it knows of is never reset, and never stuck for good: whenever its credit is
    /// used up and the host has read everything, it is told so.
    #[test]
    fn a_guest_that_keeps_the_rules_gets_everything_through(
        steps in proptest::collection::vec((0..3_u8, 1..100_000_u32), 1..200),
    ) {
        let mut connection = open();
        let (mut sent, mut told) = (0_u32, 0_u32);
        let tell = |connection: &mut Connection, told: &mut u32| {
            while let Some((op, _)) = connection.next_control() {
                assert_ne!(op, Op::Reset);
                let mut header = Header::default();
                connection.stamp(&mut header);
                *told = header.fwd_cnt;
            }
        };
        for (kind, amount) in steps {
            match kind {
                0 => {
                    let len = amount.min(BUFFER_BYTES - sent.wrapping_sub(told));
                    prop_assert_eq!(connection.receive(&data(len)), Received::Data);
                    sent = sent.wrapping_add(len);
                }
                1 => connection.forward(amount),
                _ => tell(&mut connection, &mut told),
            }
        }
        connection.forward(u32::MAX);
        tell(&mut connection, &mut told);
        prop_assert!(sent.wrapping_sub(told) <= BUFFER_BYTES / 2, "the guest is left with little credit");
    }

    #[test]
    fn any_packets_are_fine(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz::fuzz_connection(&data);
    }
}

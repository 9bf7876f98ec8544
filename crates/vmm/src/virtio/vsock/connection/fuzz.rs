//! The state machine of a connection under any packets and host events.

use super::{BUFFER_BYTES, Connection, Received};
use crate::virtio::vsock::packet::{Header, Op, TYPE_STREAM};

/// Bytes of input that make one step.
const STEP_BYTES: usize = 8;

/// # Panics
/// A bound of the connection does not hold.
pub fn fuzz_connection(data: &[u8]) {
    let Some((first, steps)) = data.split_first() else {
        return;
    };
    let mut connection = if first & 1 == 0 {
        Connection::asked_by_host()
    } else {
        Connection::asked_by_guest(&Header {
            buf_alloc: u32::from(*first) << 10,
            ..Header::default()
        })
    };
    let mut sent: u32 = 0;
    for step in steps.chunks_exact(STEP_BYTES) {
        let word = u32::from_le_bytes([step[2], step[3], step[4], step[5]]);
        match step[0] % 8 {
            0..=2 => {
                let header = Header {
                    kind: TYPE_STREAM,
                    op: (step[1] % 9).into(),
                    len: word % (BUFFER_BYTES + 2),
                    flags: step[6].into(),
                    buf_alloc: word,
                    fwd_cnt: if step[7] > 240 { word } else { sent },
                    ..Header::default()
                };
                if connection.receive(&header) == Received::Violation && !connection.is_over() {
                    let reset = connection.next_control();
                    assert_eq!(reset, Some((Op::Reset, 0)), "a violation must end in a reset");
                }
            }
            3 => connection.forward(word),
            4 => {
                let len = word.min(connection.room());
                connection.send(len);
                sent = sent.wrapping_add(len);
            }
            5 => connection.ask_for_room(),
            6 if step[1] & 1 == 0 => connection.host_sends_no_more(),
            6 => connection.host_receives_no_more(),
            _ => {
                let due = connection.has_control();
                let control = connection.next_control();
                assert_eq!(due, control.is_some());
                if control.is_some() {
                    connection.stamp(&mut Header::default());
                }
            }
        }
        assert!(
            connection.unforwarded() <= BUFFER_BYTES,
            "more is buffered than the guest had credit for"
        );
    }
    // What is due comes to an end (a reset is repeated until the connection is dropped).
    let controls = (0..8)
        .map_while(|_| connection.next_control())
        .take_while(|(op, _)| *op != Op::Reset)
        .count();
    assert!(controls < 8, "there is always something more to send");
}

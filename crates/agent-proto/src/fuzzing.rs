//! The body of the fuzz target for the decoders, which also runs for a bounded time in the ordinary tests.

use crate::frame::{Direction, HEADER_LEN, Header};
use crate::message::{Reply, Request};

/// Reads bytes as one frame in both directions: nothing panics, and what is understood encodes to something that is
/// understood the same.
///
/// # Panics
/// When a message does not survive being sent again; that is what fuzzing looks for.
pub fn fuzz_messages(data: &[u8]) {
    let Some((header, body)) = data.split_first_chunk::<HEADER_LEN>() else {
        return;
    };
    if let Ok(header) = Header::decode(*header, Direction::HostToGuest)
        && let Ok(request) = Request::decode(header.kind, body)
        && let Ok(frame) = request.encode()
    {
        let again = Request::decode(header.kind, &frame[HEADER_LEN..]).ok();
        assert_eq!(again, Some(request), "a request changed on the wire");
    }
    if let Ok(header) = Header::decode(*header, Direction::GuestToHost)
        && let Ok(reply) = Reply::decode(header.kind, body.to_vec())
        && let Ok(frame) = reply.encode()
    {
        let again = Reply::decode(header.kind, frame[HEADER_LEN..].to_vec()).ok();
        assert_eq!(again, Some(reply), "a reply changed on the wire");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Kinds are few, so they are aimed at; arbitrary ones would hardly ever be met.
        #[test]
        fn frames_of_known_kinds_and_arbitrary_bodies_are_handled(kind in 0..128_u8, body: Vec<u8>) {
            let mut frame = vec![0, 0, 0, 0, kind, 0, 0, 0];
            frame.extend(body);
            fuzz_messages(&frame);
        }
    }
}

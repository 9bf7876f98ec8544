//! Every message of terminals survives the wire, and none is longer than agreed.

use proptest::prelude::*;

use super::*;
use crate::{HEADER_LEN, Header, Reply, Request};

fn request() -> impl Strategy<Value = PtyRequest> {
    let size = (any::<u16>(), any::<u16>()).prop_map(|(columns, rows)| PtySize { columns, rows });
    let program = prop_oneof![
        any::<String>().prop_map(PtyProgram::Shell),
        any::<Vec<String>>().prop_map(PtyProgram::Arguments),
    ];
    let create = (
        any::<PtyName>(),
        program,
        size.clone(),
        any::<Vec<(String, String)>>(),
        any::<Option<String>>(),
        any::<u64>(),
    );
    prop_oneof![
        create.prop_map(|(name, program, size, environment, directory, created_at_ms)| {
            PtyRequest::Create(PtyCreate {
                name,
                program,
                size,
                environment,
                directory,
                created_at_ms,
            })
        }),
        Just(PtyRequest::List),
        any::<(PtyName, Vec<u8>)>().prop_map(|(name, bytes)| PtyRequest::Input { name, bytes }),
        (any::<PtyName>(), size).prop_map(|(name, size)| PtyRequest::Resize { name, size }),
        any::<PtyName>().prop_map(|name| PtyRequest::Kill { name }),
        any::<(PtyName, u64)>().prop_map(|(name, since)| PtyRequest::Attach { name, since }),
        any::<(PtyName, u64, u32, u32)>().prop_map(|(name, since, bytes_max, wait_ms)| {
            PtyRequest::Read(PtyRead {
                name,
                since,
                bytes_max,
                wait_ms,
            })
        }),
    ]
}

fn reply() -> impl Strategy<Value = PtyReply> {
    let session =
        any::<(PtyName, String, u64, Option<i32>)>().prop_map(|(name, label, created_at_ms, exit_code)| {
            PtySession {
                name,
                label,
                created_at_ms,
                exit_code,
            }
        });
    prop_oneof![
        proptest::collection::vec(session, 0..8).prop_map(PtyReply::Sessions),
        any::<(u64, Vec<u8>)>().prop_map(|(seq, bytes)| PtyReply::Output { seq, bytes }),
        any::<i32>().prop_map(|code| PtyReply::Exit { code }),
    ]
}

/// Kind and body of a frame.
fn opened(frame: &[u8], from: Direction) -> (u8, Vec<u8>) {
    let (header, body) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
    let header = Header::decode(*header, from).unwrap();
    assert_eq!(header.body_len, body.len());
    (header.kind, body.to_vec())
}

proptest! {
    #[test]
    fn requests_survive_the_wire(request in request()) {
        let request = Request::Pty(request);
        let (kind, body) = opened(&request.encode().unwrap(), Direction::HostToGuest);
        prop_assert_eq!(Request::decode(kind, &body).unwrap(), request);
    }

    #[test]
    fn replies_survive_the_wire(reply in reply()) {
        let reply = Reply::Pty(reply);
        let (kind, body) = opened(&reply.encode().unwrap(), Direction::GuestToHost);
        prop_assert_eq!(Reply::decode(kind, body).unwrap(), reply);
    }

    #[test]
    fn a_cut_request_is_never_understood(request in request(), cut in 1..40_usize) {
        let (kind, body) = opened(&Request::Pty(request).encode().unwrap(), Direction::HostToGuest);
        prop_assume!(kind != kind::INPUT && cut <= body.len());
        prop_assert!(Request::decode(kind, &body[..body.len() - cut]).is_err());
    }
}

#[test]
fn what_is_too_long_is_refused_on_both_sides() {
    let input = |len: usize| PtyRequest::Input {
        name: [1; 16],
        bytes: vec![b'x'; len],
    };
    assert!(input(PTY_INPUT_MAX).encode().is_ok());
    assert!(matches!(
        input(PTY_INPUT_MAX + 1).encode(),
        Err(MessageError::TooLong { .. })
    ));
    for (kind, len) in [
        (kind::INPUT, 16 + PTY_INPUT_MAX + 1),
        (kind::CREATE, PTY_CREATE_BODY_MAX + 1),
        (kind::READ, OVERHEAD_BYTES + 1),
    ] {
        let decoded = PtyRequest::decode(kind, &vec![0; len]);
        assert!(matches!(decoded, Err(MessageError::TooLong { .. })), "{kind}");
    }
    let output = |len: usize| PtyReply::Output {
        seq: 1,
        bytes: vec![b'x'; len],
    };
    assert!(output(PTY_OUTPUT_MAX).encode().is_ok());
    assert!(output(PTY_OUTPUT_MAX + 1).encode().is_err());
    let long = PtyReply::decode(kind::OUTPUT, vec![0; SEQ_BYTES + PTY_OUTPUT_MAX + 1]);
    assert!(matches!(long, Err(MessageError::TooLong { .. })));
    assert!(matches!(
        PtyReply::decode(kind::OUTPUT, vec![0; 7]),
        Err(MessageError::Short { .. })
    ));
}

#[test]
fn the_host_makes_no_frame_the_guest_would_refuse() {
    let create = PtyRequest::Create(PtyCreate {
        name: [0; 16],
        program: PtyProgram::Shell("x".repeat(PTY_CREATE_BODY_MAX)),
        size: PtySize { columns: 1, rows: 1 },
        environment: Vec::new(),
        directory: None,
        created_at_ms: 0,
    });
    assert!(matches!(create.encode(), Err(MessageError::TooLong { .. })));
}

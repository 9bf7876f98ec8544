//! Every message survives the wire, and what is no message is refused.

use super::*;
use proptest::prelude::*;

fn split(frame: &[u8], from: Direction) -> (u8, Vec<u8>) {
    let header = Header::decode(frame[..HEADER_LEN].try_into().unwrap(), from).unwrap();
    assert_eq!(header.body_len, frame.len() - HEADER_LEN);
    (header.kind, frame[HEADER_LEN..].to_vec())
}

fn request() -> impl Strategy<Value = Request> {
    let identity = (".*", any::<[u8; 16]>(), any::<Option<u64>>(), any::<[u8; 32]>());
    prop_oneof![
        any::<u16>().prop_map(|version| Request::Hello { version }),
        identity.prop_map(|(hostname, machine_id, wall_clock_ns, entropy)| {
            Request::Identify(Identity {
                hostname,
                machine_id,
                wall_clock_ns,
                entropy,
            })
        }),
        (any::<bool>(), any::<Option<u64>>(), any::<Option<String>>(), ".*").prop_map(
            |(python, timeout_ms, traceparent, code)| {
                let language = if python { Language::Python } else { Language::Bash };
                Request::Exec(ExecRequest {
                    language,
                    timeout_ms,
                    traceparent,
                    code,
                })
            }
        ),
        Just(Request::Ping),
        Just(Request::PowerOff),
        any::<i64>().prop_map(|forward_ns| Request::Clock { forward_ns }),
        any::<(Vec<String>, Vec<String>)>()
            .prop_map(|(roots, skip)| Request::Inventory(Inventory { roots, skip })),
        any::<Vec<Vec<u8>>>().prop_map(|paths| Request::Digests { paths }),
        Just(Request::Follow),
        any::<u64>().prop_map(|leave_bytes| Request::Room { leave_bytes }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        Just(EntryKind::File),
        Just(EntryKind::Directory),
        Just(EntryKind::Symlink),
        Just(EntryKind::Other),
    ];
    let numbers = any::<(u32, u64, i64, i64, u64)>();
    (any::<Vec<u8>>(), kind, numbers).prop_map(|(path, kind, (mode, size, mtime_ns, ctime_ns, inode))| {
        Entry {
            path,
            kind,
            mode,
            size,
            mtime_ns,
            ctime_ns,
            inode,
        }
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        (any::<u16>(), ".*").prop_map(|(version, build)| Reply::Welcome(Welcome { version, build })),
        (any::<u16>(), any::<u64>())
            .prop_map(|(version, uptime_ms)| Reply::Ready(Ready { version, uptime_ms })),
        Just(Reply::Done),
        any::<Vec<u8>>().prop_map(Reply::Stdout),
        any::<Vec<u8>>().prop_map(Reply::Stderr),
        any::<i32>().prop_map(|code| Reply::Exit(Exit { code })),
        ".*".prop_map(|message| Reply::Failed(Failure {
            code: FailureCode::Busy,
            message
        })),
        ".*".prop_map(|message| Reply::Failed(Failure {
            code: FailureCode::NotFound,
            message
        })),
        proptest::collection::vec(entry(), 0..20).prop_map(Reply::Entries),
        any::<Vec<Option<[u8; 32]>>>().prop_map(Reply::Digests),
        any::<u64>().prop_map(|bytes| Reply::Dropped { bytes }),
        any::<u64>().prop_map(|wall_clock_ns| Reply::Time { wall_clock_ns }),
        any::<(u64, u64)>().prop_map(|(free_bytes, held_bytes)| {
            Reply::Room(Room {
                free_bytes,
                held_bytes,
            })
        }),
        any::<(u64, u64)>().prop_map(|(stdout_bytes, stderr_bytes)| {
            Reply::Carried(Carried {
                stdout_bytes,
                stderr_bytes,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn requests_survive_the_wire(request in request()) {
        let (kind, body) = split(&request.encode().unwrap(), Direction::HostToGuest);
        prop_assert_eq!(Request::decode(kind, &body).unwrap(), request);
    }

    #[test]
    fn replies_survive_the_wire(reply in reply()) {
        let (kind, body) = split(&reply.encode().unwrap(), Direction::GuestToHost);
        prop_assert_eq!(Reply::decode(kind, body).unwrap(), reply);
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_decoders(kind: u8, body: Vec<u8>) {
        drop(Request::decode(kind, &body));
        drop(Reply::decode(kind, body));
    }
}

#[test]
fn bytes_after_a_message_are_refused() {
    assert!(matches!(
        Request::decode(kind::PING, &[0]),
        Err(MessageError::TrailingBytes(1))
    ));
    let (kind, mut body) = split(
        &Request::Hello { version: 1 }.encode().unwrap(),
        Direction::HostToGuest,
    );
    body.push(7);
    assert!(matches!(
        Request::decode(kind, &body),
        Err(MessageError::TrailingBytes(1))
    ));
}

#[test]
fn a_full_list_of_the_longest_paths_fits_and_one_more_does_not() {
    let longest = vec![b'/'; 4096];
    let mut paths = vec![longest.clone(); DIGEST_PATHS_MAX];
    let whole = Request::Digests { paths: paths.clone() };
    let (kind, body) = split(&whole.encode().unwrap(), Direction::HostToGuest);
    assert_eq!(Request::decode(kind, &body).unwrap(), whole);

    paths.push(longest);
    let over = packed(kind, &paths, Direction::HostToGuest).unwrap();
    assert!(matches!(
        Request::decode(kind, &over[HEADER_LEN..]),
        Err(MessageError::PathsTooLong(_))
    ));
    assert!(matches!(
        Request::Digests { paths }.encode(),
        Err(MessageError::PathsTooLong(_))
    ));
}

#[test]
fn digests_of_a_full_list_fit_into_a_frame() {
    let all = Reply::Digests(vec![Some([255; 32]); DIGEST_PATHS_MAX]);
    assert!(all.encode().is_ok());
}

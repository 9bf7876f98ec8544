//! File messages survive the wire, and what is too long is refused.

use super::super::{
    Change, ChangeKind, Expected, FILE_PATH_MAX, FileProblem, FileRefusal, FileStat, ListDirectory, Listed,
    Opened, Range, ReadFile, WriteFile,
};
use super::*;
use crate::message::{EntryKind, Reply, Request};
use proptest::prelude::*;

fn path() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..64)
}

fn range() -> impl Strategy<Value = Range> {
    prop_oneof![
        Just(Range::All),
        any::<u64>().prop_map(Range::From),
        any::<(u64, u64)>().prop_map(|(first, last)| Range::Between(first, last)),
        any::<u64>().prop_map(Range::Last),
    ]
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        Just(Expected::Anything),
        Just(Expected::Absent),
        Just(Expected::Present),
        any::<(u64, u64, i64)>().prop_map(|(inode, size, ctime_ns)| Expected::Version {
            inode,
            size,
            ctime_ns
        }),
    ]
}

fn request() -> impl Strategy<Value = FileRequest> {
    let write = (path(), any::<Option<u32>>(), any::<(bool, bool)>(), expected());
    prop_oneof![
        (path(), any::<bool>()).prop_map(|(path, follow)| FileRequest::Stat { path, follow }),
        (path(), range()).prop_map(|(path, range)| FileRequest::Read(ReadFile { path, range })),
        (write, any::<Option<u64>>()).prop_map(|((path, mode, (parents, sync), expected), length)| {
            FileRequest::Write(WriteFile {
                path,
                mode,
                parents,
                sync,
                expected,
                length,
            })
        }),
        any::<Vec<u8>>().prop_map(FileRequest::Piece),
        Just(FileRequest::Commit),
        (path(), path(), any::<u32>()).prop_map(|(path, after, limit)| FileRequest::List(ListDirectory {
            path,
            after,
            limit
        })),
        (path(), any::<bool>()).prop_map(|(path, recursive)| FileRequest::Remove { path, recursive }),
        (path(), any::<Option<u32>>(), any::<bool>())
            .prop_map(|(path, mode, parents)| FileRequest::MakeDirectory { path, mode, parents }),
        path().prop_map(|path| FileRequest::Pack { path }),
        path().prop_map(|path| FileRequest::Unpack { path }),
        (path(), any::<bool>()).prop_map(|(path, recursive)| FileRequest::Watch { path, recursive }),
    ]
}

fn stat() -> impl Strategy<Value = FileStat> {
    let kind = prop_oneof![
        Just(EntryKind::File),
        Just(EntryKind::Directory),
        Just(EntryKind::Symlink),
        Just(EntryKind::Other),
    ];
    let numbers = any::<(u32, u64, i64, i64, u64)>();
    (kind, numbers, proptest::option::of(path())).prop_map(
        |(kind, (mode, size, mtime_ns, ctime_ns, inode), target)| FileStat {
            kind,
            mode,
            size,
            mtime_ns,
            ctime_ns,
            inode,
            target,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let kind = prop_oneof![
        Just(ChangeKind::Created),
        Just(ChangeKind::Modified),
        Just(ChangeKind::Deleted),
        Just(ChangeKind::Moved),
        Just(ChangeKind::Overflow),
    ];
    (kind, any::<bool>(), path(), proptest::option::of(path())).prop_map(|(kind, directory, path, to)| {
        Change {
            kind,
            directory,
            path,
            to,
        }
    })
}

fn reply() -> impl Strategy<Value = FileReply> {
    let listed = (path(), stat()).prop_map(|(name, stat)| Listed { name, stat });
    prop_oneof![
        stat().prop_map(FileReply::Stat),
        (stat(), any::<(u64, Option<u64>)>())
            .prop_map(|(stat, (offset, length))| { FileReply::Opened(Opened { stat, offset, length }) }),
        any::<Vec<u8>>().prop_map(FileReply::Data),
        proptest::collection::vec(listed, 0..20).prop_map(FileReply::Entries),
        any::<bool>().prop_map(|more| FileReply::ListEnd { more }),
        any::<(u64, u64)>().prop_map(|(entries, bytes)| FileReply::Unpacked { entries, bytes }),
        proptest::collection::vec(change(), 0..20).prop_map(FileReply::Changes),
        ".*".prop_map(|message| FileReply::Refused(FileRefusal {
            problem: FileProblem::DiskFull,
            message
        })),
    ]
}

proptest! {
    #[test]
    fn requests_survive_the_wire(request in request()) {
        let request = Request::File(request);
        let frame = request.encode().unwrap();
        prop_assert!(REQUEST_KINDS.contains(&frame[4]));
        prop_assert_eq!(Request::decode(frame[4], &frame[HEADER_LEN..]).unwrap(), request);
    }

    #[test]
    fn replies_survive_the_wire(reply in reply()) {
        let reply = Reply::File(reply);
        let frame = reply.encode().unwrap();
        prop_assert!(REPLY_KINDS.contains(&frame[4]));
        prop_assert_eq!(Reply::decode(frame[4], frame[HEADER_LEN..].to_vec()).unwrap(), reply);
    }
}

#[test]
fn a_piece_and_a_path_have_their_longest_and_no_more() {
    let full = FileRequest::Piece(vec![1; FILE_PIECE_MAX]);
    let frame = full.encode().unwrap();
    assert_eq!(FileRequest::decode(frame[4], &frame[HEADER_LEN..]).unwrap(), full);
    let over = vec![1; FILE_PIECE_MAX + 1];
    assert!(matches!(
        FileRequest::decode(frame[4], &over),
        Err(MessageError::TooLong { .. })
    ));
    assert!(FileRequest::Piece(over).encode().is_err());

    let list = |bytes| {
        FileRequest::List(ListDirectory {
            path: vec![b'/'; bytes],
            after: vec![b'/'; bytes],
            limit: u32::MAX,
        })
    };
    assert!(list(FILE_PATH_MAX).encode().is_ok());
    assert!(list(2 * FILE_PATH_MAX).encode().is_err());
}

#[test]
fn content_is_carried_as_it_is() {
    let frame = FileReply::Data(b"as it is".to_vec()).encode().unwrap();
    assert_eq!(&frame[HEADER_LEN..], b"as it is");
    assert_eq!(data_header(8).unwrap(), frame[..HEADER_LEN]);
    let frame = FileRequest::Piece(b"so, too".to_vec()).encode().unwrap();
    assert_eq!(piece_header(7).unwrap(), frame[..HEADER_LEN]);
    assert_eq!(piece(frame[4], &frame[HEADER_LEN..]), Some(&b"so, too"[..]));
    assert_eq!(piece(1, b""), None);
    assert!(data_header(FILE_PIECE_MAX + 1).is_err());
}

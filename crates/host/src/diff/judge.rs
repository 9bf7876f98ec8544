//! What two entries of the same path say about whether they are the same.

use std::cmp::Ordering;

use agent_proto::{Entry, EntryKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Different,
    /// Two regular files of one size, which only their content tells apart.
    Open,
}

/// Compares what is at one path before and after; one of them may be missing. What both have had since before
/// `common_until_ns` is common to them.
pub(super) fn judge(before: Option<&Entry>, after: Option<&Entry>, common_until_ns: i64) -> Verdict {
    let (Some(before), Some(after)) = (before, after) else {
        return Verdict::Different;
    };
    if before.kind != after.kind || before.mode != after.mode {
        return Verdict::Different;
    }
    match before.kind {
        // What is in it is compared by itself.
        EntryKind::Directory | EntryKind::Other => Verdict::Same,
        EntryKind::File | EntryKind::Symlink if before.size != after.size => Verdict::Different,
        EntryKind::File => {
            // Every change of a file is a change of its ctime, which nobody can set. But two guests may have changed
            // a file each, in the same tick of their clocks.
            let untouched = same_since_creation(before, after) && before.ctime_ns < common_until_ns;
            if untouched { Verdict::Same } else { Verdict::Open }
        }
        // Its target cannot change; another one is another link.
        EntryKind::Symlink if before.inode == after.inode && before.ctime_ns == after.ctime_ns => {
            Verdict::Same
        }
        EntryKind::Symlink if before.mtime_ns == after.mtime_ns => Verdict::Same,
        EntryKind::Symlink => Verdict::Different,
    }
}

fn same_since_creation(before: &Entry, after: &Entry) -> bool {
    (before.inode, before.ctime_ns, before.mtime_ns) == (after.inode, after.ctime_ns, after.mtime_ns)
}

/// The order of an inventory: depth first, and names by their bytes.
pub(super) fn order(a: &[u8], b: &[u8]) -> Ordering {
    // A directory's end counts less than any byte of a name, so that what is below it comes before its neighbours.
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    without_end(a)
        .iter()
        .map(rank)
        .cmp(without_end(b).iter().map(rank))
}

/// The root's path ends in what other paths only begin with.
fn without_end(path: &[u8]) -> &[u8] {
    if path == b"/" { b"" } else { path }
}

pub(crate) fn file_kind(kind: EntryKind) -> api::FileKind {
    match kind {
        EntryKind::File => api::FileKind::File,
        EntryKind::Directory => api::FileKind::Directory,
        EntryKind::Symlink => api::FileKind::Symlink,
        EntryKind::Other => api::FileKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(kind: EntryKind, size: u64, ctime_ns: i64) -> Entry {
        Entry {
            path: b"/a".to_vec(),
            kind,
            mode: 0o644,
            size,
            mtime_ns: ctime_ns,
            ctime_ns,
            inode: 7,
        }
    }

    #[test]
    fn content_is_read_only_where_the_metadata_leave_it_open() {
        let file = |size, ctime| entry(EntryKind::File, size, ctime);
        let judge = |a: &Entry, b: &Entry| judge(Some(a), Some(b), 100);
        assert_eq!(judge(&file(1, 50), &file(1, 50)), Verdict::Same);
        assert_eq!(judge(&file(1, 50), &file(2, 50)), Verdict::Different);
        assert_eq!(judge(&file(1, 50), &file(1, 120)), Verdict::Open);
        // Both were written after the two parted, in the same tick.
        assert_eq!(judge(&file(1, 120), &file(1, 120)), Verdict::Open);
        let link = entry(EntryKind::Symlink, 1, 50);
        assert_eq!(judge(&link, &file(1, 50)), Verdict::Different);
        assert_eq!(
            judge(&link, &entry(EntryKind::Symlink, 1, 60)),
            Verdict::Different
        );
        let directory = |ctime| entry(EntryKind::Directory, 4096, ctime);
        assert_eq!(judge(&directory(50), &directory(120)), Verdict::Same);
        let mut open = directory(50);
        open.mode = 0o777;
        assert_eq!(judge(&directory(50), &open), Verdict::Different);
        assert_eq!(super::judge(None, Some(&link), 100), Verdict::Different);
    }

    #[test]
    fn what_is_below_a_directory_comes_before_its_neighbours() {
        let sorted = ["/", "/a", "/a/b", "/a/b/c", "/a!", "/a-b", "/a.d/x", "/ab"];
        for pair in sorted.windows(2) {
            assert_eq!(
                order(pair[0].as_bytes(), pair[1].as_bytes()),
                Ordering::Less,
                "{pair:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_names_one_by_one(a in "(/[a-c!/.-]{0,3}){1,4}", b in "(/[a-c!/.-]{0,3}){1,4}") {
            let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            if a != "/" && b != "/" {
                prop_assert_eq!(order(a.as_bytes(), b.as_bytes()), parts(&a).cmp(&parts(&b)));
            }
        }
    }
}

//! Changes on their way, without those that say nothing new.

use std::collections::HashSet;

use agent_proto::files::{Change, ChangeKind, FILE_PAGE_BODY_MAX};

/// Most that a change takes on the wire beside its paths, in bytes.
const CHANGE_BYTES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Batch {
    changes: Vec<Change>,
    /// Created or modified since the last batch: another write to them is no news.
    fresh: HashSet<Vec<u8>>,
}

impl Batch {
    pub(super) fn created(&mut self, path: &[u8], directory: bool) {
        if self.fresh.insert(path.to_vec()) {
            self.add(ChangeKind::Created, path, None, directory);
        }
    }

    pub(super) fn modified(&mut self, path: &[u8], directory: bool) {
        if self.fresh.insert(path.to_vec()) {
            self.add(ChangeKind::Modified, path, None, directory);
        }
    }

    pub(super) fn deleted(&mut self, path: &[u8], directory: bool) {
        self.fresh.remove(path);
        self.add(ChangeKind::Deleted, path, None, directory);
    }

    pub(super) fn moved(&mut self, path: &[u8], to: &[u8], directory: bool) {
        self.fresh.remove(path);
        self.add(ChangeKind::Moved, path, Some(to), directory);
    }

    pub(super) fn overflow(&mut self, path: &[u8]) {
        self.add(ChangeKind::Overflow, path, None, true);
    }

    fn add(&mut self, kind: ChangeKind, path: &[u8], to: Option<&[u8]>, directory: bool) {
        self.changes.push(Change {
            kind,
            directory,
            path: path.to_vec(),
            to: to.map(<[u8]>::to_vec),
        });
    }

    /// What has come, in pieces that a frame can carry.
    pub(super) fn take_pages(&mut self) -> Vec<Vec<Change>> {
        self.fresh.clear();
        let mut pages: Vec<Vec<Change>> = Vec::new();
        let mut bytes = FILE_PAGE_BODY_MAX;
        for change in self.changes.drain(..) {
            let cost = CHANGE_BYTES + change.path.len() + change.to.as_ref().map_or(0, Vec::len);
            if bytes + cost > FILE_PAGE_BODY_MAX {
                pages.push(Vec::new());
                bytes = 0;
            }
            bytes += cost;
            if let Some(page) = pages.last_mut() {
                page.push(change);
            }
        }
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_proto::files::FileReply;
    use agent_proto::{HEADER_LEN, Reply};

    #[test]
    fn writes_to_what_is_new_are_no_news_until_it_has_been_told() {
        let mut batch = Batch::default();
        batch.created(b"/a", false);
        batch.modified(b"/a", false);
        batch.deleted(b"/a", false);
        batch.modified(b"/a", false);
        let kinds = |pages: Vec<Vec<Change>>| -> Vec<ChangeKind> {
            pages.into_iter().flatten().map(|change| change.kind).collect()
        };
        use ChangeKind::{Created, Deleted, Modified};
        assert_eq!(kinds(batch.take_pages()), [Created, Deleted, Modified]);
        batch.modified(b"/a", false);
        assert_eq!(kinds(batch.take_pages()), [Modified]);
        assert!(batch.take_pages().is_empty());
    }

    #[test]
    fn pages_of_the_longest_changes_fit_into_their_frames() {
        let mut batch = Batch::default();
        for number in 0..100_u8 {
            batch.moved(&[number; 4200], &[number; 4200], true);
        }
        let pages = batch.take_pages();
        assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), 100);
        for page in pages {
            let frame = Reply::File(FileReply::Changes(page)).encode().unwrap();
            assert!(frame.len() - HEADER_LEN <= FILE_PAGE_BODY_MAX);
        }
    }
}

//! A wire's log: a ring of what its guest reached and was refused.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use egress::Name;
use net_proto::{LOG_ENTRIES_MAX, LogEntry, LogPage, Protocol, Verdict};

/// So far back a refusal is looked for that was the same: a guest that tries one thing over and over does not push
/// everything else out.
const SAME_WITHIN: usize = 32;

/// What an entry begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: Option<Name>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<LogEntry>,
    newest: u64,
}

/// An entry that may have been pushed out since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryId(u64);

impl Journal {
    /// Something begins that is allowed.
    pub(crate) fn open(&mut self, subject: Subject) -> EntryId {
        self.push(subject, Verdict::Allowed, None)
    }

    /// Something was refused, or failed before it began.
    pub(crate) fn refuse(&mut self, subject: Subject, verdict: Verdict, reason: &str) {
        let name = subject.name.as_ref().map(Name::as_str);
        let same = self.entries.iter_mut().rev().take(SAME_WITHIN).find(|entry| {
            !entry.open
                && entry.verdict == verdict
                && entry.reason.as_deref() == Some(reason)
                && (entry.name.as_deref(), entry.address, entry.port, entry.protocol)
                    == (name, subject.address, subject.port, subject.protocol)
        });
        if let Some(entry) = same {
            entry.times += 1;
            entry.at_ms = now_ms();
            return;
        }
        let id = self.push(subject, verdict, Some(reason.to_owned()));
        self.change(id, |entry| entry.open = false);
    }

    pub(crate) fn change(&mut self, id: EntryId, change: impl FnOnce(&mut LogEntry)) {
        let entry =
            id.0.checked_sub(self.oldest())
                .and_then(|index| usize::try_from(index).ok())
                .and_then(|index| self.entries.get_mut(index));
        if let Some(entry) = entry {
            change(entry);
        }
    }

    /// Ends an entry as what it has been, or else with a reason.
    pub(crate) fn close(&mut self, id: EntryId, how: Option<(Verdict, &str)>) {
        self.change(id, |entry| {
            entry.open = false;
            if let Some((verdict, reason)) = how {
                entry.verdict = verdict;
                entry.reason = Some(reason.to_owned());
            }
        });
    }

    pub(crate) fn page(&self, after: u64, max: usize) -> LogPage {
        let later = self.entries.iter().filter(|entry| entry.seq > after);
        LogPage {
            entries: later.take(max).cloned().collect(),
            oldest: self.oldest(),
            newest: self.newest,
        }
    }

    fn oldest(&self) -> u64 {
        self.entries.front().map_or(self.newest + 1, |entry| entry.seq)
    }

    fn push(&mut self, subject: Subject, verdict: Verdict, reason: Option<String>) -> EntryId {
        if self.entries.len() >= LOG_ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.newest += 1;
        self.entries.push_back(LogEntry {
            seq: self.newest,
            at_ms: now_ms(),
            name: subject.name.map(|name| name.to_string()),
            address: subject.address,
            port: subject.port,
            protocol: subject.protocol,
            verdict,
            reason,
            bytes_up: 0,
            bytes_down: 0,
            times: 1,
            open: true,
        });
        EntryId(self.newest)
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(port: u16) -> Subject {
        Subject {
            name: None,
            address: Some([1, 2, 3, 4].into()),
            port,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn the_oldest_entries_go_and_what_is_gone_is_not_changed() {
        let mut journal = Journal::default();
        let first = journal.open(subject(1));
        for port in 2..=600 {
            journal.open(subject(port));
        }
        journal.close(first, None);
        let page = journal.page(0, 10);
        assert_eq!((page.oldest, page.newest, page.entries.len()), (89, 600, 10));
        assert!(page.entries.iter().all(|entry| entry.open));
        assert_eq!(journal.page(599, 10).entries.len(), 1);
        assert_eq!(journal.page(600, 10).entries.len(), 0);
        assert_eq!(Journal::default().page(0, 10).oldest, 1);
    }

    #[test]
    fn the_same_refusal_again_is_counted_and_another_is_not() {
        let mut journal = Journal::default();
        for port in [1, 2, 1, 1, 2] {
            journal.refuse(subject(port), Verdict::Denied, "no");
        }
        let times: Vec<_> = journal
            .page(0, 9)
            .entries
            .iter()
            .map(|entry| (entry.port, entry.times))
            .collect();
        assert_eq!(times, [(1, 3), (2, 2)]);
    }

    #[test]
    fn an_entry_grows_while_it_is_open_and_tells_how_it_ended() {
        let mut journal = Journal::default();
        let id = journal.open(subject(1));
        journal.change(id, |entry| entry.bytes_up = 5);
        journal.close(id, Some((Verdict::Failed, "refused")));
        let entry = journal.page(0, 1).entries.remove(0);
        assert_eq!(
            (entry.bytes_up, entry.open, entry.verdict),
            (5, false, Verdict::Failed)
        );
    }
}

//! Who did what: noted where it happens, without waiting, and written in batches.
//!
//! The queue is bounded. What does not fit is counted, and the count goes into the log and, as a row of its own, into
//! the audit log: a flood cannot hide that there was one. What operators change is written with the change itself and never dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, mpsc};

use super::{Account, Admitted};
use crate::clock;
use crate::store::AuditRow;

/// Rows that may wait to be written.
const QUEUE: usize = 8192;

/// What is done to sandboxes, as the log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Change,
    Delete,
    Exec,
    Fork,
    Merge,
    Checkpoint,
    DeleteCheckpoint,
    Rollback,
    Kill,
    Pty,
    Files,
    Webhook,
    Secret,
    Freeze,
    Resume,
    DeleteSpace,
    ImportSpace,
    ExportSpace,
    Share,
}

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) account: Arc<Account>,
    pub(crate) key_id: Option<Arc<str>>,
    pub(crate) remote: Option<SocketAddr>,
}

/// What a handler wants the log to say besides what the request's line says; goes with its response.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditNote {
    pub(crate) target: Option<String>,
    pub(crate) detail: Option<String>,
}

#[derive(Debug)]
pub(crate) struct AuditLog {
    rows: mpsc::Sender<AuditRow>,
    dropped: Arc<AtomicU64>,
    /// The queue is half full.
    nudge: Arc<Notify>,
}

/// The other end.
#[derive(Debug)]
pub(super) struct AuditQueue {
    pub(super) rows: mpsc::Receiver<AuditRow>,
    pub(super) nudge: Arc<Notify>,
    dropped: Arc<AtomicU64>,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Merge => "merge",
            Self::Checkpoint => "checkpoint",
            Self::DeleteCheckpoint => "delete_checkpoint",
            Self::Rollback => "rollback",
            Self::Kill => "kill",
            Self::Pty => "pty",
            Self::Files => "files",
            Self::Webhook => "webhook",
            Self::Secret => "secret",
            Self::Freeze => "freeze",
            Self::Resume => "resume",
            Self::DeleteSpace => "delete_space",
            Self::ImportSpace => "import_space",
            Self::ExportSpace => "export_space",
            Self::Share => "share",
        }
    }
}

impl Caller {
    pub(crate) fn new(admitted: Admitted, remote: Option<SocketAddr>) -> Self {
        let Admitted { account, key_id } = admitted;
        Self {
            account,
            key_id,
            remote,
        }
    }
}

impl AuditLog {
    /// Notes what a caller did; `result` is `ok` or the code of an error.
    pub(crate) fn note(&self, caller: &Caller, action: Action, note: AuditNote, result: String) {
        let row = AuditRow {
            id: 0,
            at_ms: clock::now_ms(),
            actor: "tenant",
            tenant: caller.account.name().to_owned(),
            key_id: caller.key_id.as_deref().map(str::to_owned),
            remote: caller.remote.map(|address| address.to_string()),
            action: action.name().to_owned(),
            target: note.target,
            result,
            detail: note.detail,
        };
        if self.rows.try_send(row).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if self.rows.capacity() < QUEUE / 2 {
            self.nudge.notify_one();
        }
    }
}

impl AuditQueue {
    pub(super) fn new() -> (AuditLog, Self) {
        let (rows, queue) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let nudge = Arc::new(Notify::new());
        let log = AuditLog {
            rows,
            dropped: Arc::clone(&dropped),
            nudge: Arc::clone(&nudge),
        };
        let queue = Self {
            rows: queue,
            nudge,
            dropped,
        };
        (log, queue)
    }

    /// Whether to write at once: more than half of the queue is full.
    pub(super) fn is_filling(&self) -> bool {
        self.rows.len() > QUEUE / 2
    }

    /// Says how many were dropped since the last time.
    pub(super) fn take_dropped(&self) -> Option<AuditRow> {
        let count = self.dropped.swap(0, Ordering::Relaxed);
        (count > 0).then(|| {
            tracing::warn!(count, "audit rows were dropped: more came than can be written");
            AuditRow {
                id: 0,
                at_ms: clock::now_ms(),
                actor: "host",
                tenant: String::new(),
                key_id: None,
                remote: None,
                action: "audit_dropped".to_owned(),
                target: None,
                result: "dropped".to_owned(),
                detail: Some(count.to_string()),
            }
        })
    }

    /// Rows that could not be written are dropped like those that did not fit.
    pub(super) fn lost(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::TenantRow;

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_said_once() {
        let (log, mut queue) = AuditQueue::new();
        let row = TenantRow {
            id: 1,
            name: "a".to_owned(),
            tier: pod_types::Tier::Free,
            overrides: pod_types::Overrides::new(),
            wake: None,
            created_at_ms: 1,
        };
        let caller = Caller {
            account: Arc::new(Account::new(row)),
            key_id: None,
            remote: None,
        };
        for _ in 0..QUEUE + 7 {
            log.note(&caller, Action::Exec, AuditNote::default(), "ok".to_owned());
        }
        assert!(queue.is_filling());
        queue.nudge.notified().await;
        assert_eq!(queue.take_dropped().unwrap().detail.as_deref(), Some("7"));
        assert!(queue.take_dropped().is_none());
        queue.rows.try_recv().unwrap();
        log.note(&caller, Action::Exec, AuditNote::default(), "ok".to_owned());
        assert!(queue.take_dropped().is_none());
    }
}

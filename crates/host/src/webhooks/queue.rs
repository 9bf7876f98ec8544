//! Events between the moment they happen and their commit.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::hook::Hook;
use crate::happenings::Told;

/// While more than this wait, those who would cause more wait, too.
const PACE_AT: usize = 4096;
const PACE_BOUND: Duration = Duration::from_secs(5);

/// More than this are not kept. It takes a database that fails for long: each event belongs to a sandbox that was made
/// or ended, and making them is held up long before.
const MOST: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Entry>>,
    len: AtomicUsize,
    lost: AtomicU64,
    news: Notify,
    room: Notify,
}

/// An event, and who wants it.
pub(super) type Entry = (Told, Vec<Arc<Hook>>);

impl Queue {
    pub(super) fn push(&self, told: Told, listeners: Vec<Arc<Hook>>) {
        let mut waiting = self.waiting();
        if waiting.len() >= MOST {
            drop(waiting);
            if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!(
                    ?told,
                    "events for webhooks are lost: the database does not take them"
                );
            }
            return;
        }
        waiting.push_back((told, listeners));
        self.len.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        self.news.notify_one();
    }

    /// What waits, oldest first, up to so many.
    pub(super) fn take(&self, most: usize) -> Vec<Entry> {
        let mut waiting = self.waiting();
        let count = waiting.len().min(most);
        let taken = waiting.drain(..count).collect();
        self.len.store(waiting.len(), Ordering::Relaxed);
        if waiting.len() < PACE_AT {
            self.room.notify_waiters();
        }
        taken
    }

    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) async fn pace(&self) {
        if self.len() < PACE_AT {
            return;
        }
        let mut room = pin!(self.room.notified());
        // Listening starts before looking again, so that no room falls in between.
        room.as_mut().enable();
        if self.len() >= PACE_AT {
            // The events are kept all the same.
            let _ = timeout(PACE_BOUND, room).await;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

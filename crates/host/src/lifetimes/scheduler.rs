//! Who is to be looked at next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lifecycle::{Agenda, Entry, Moment};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Uptime;

/// A timer set further ahead would outlive a runtime's idea of time.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// One for the host. It holds nobody back from ending: whoever is gone is not due.
#[derive(Debug)]
pub(crate) struct Scheduler<T> {
    agenda: Mutex<Agenda<Weak<T>>>,
    /// Something comes before what was first.
    sooner: Notify,
    uptime: Uptime,
}

/// Being on the agenda; ends when dropped.
#[derive(Debug)]
pub(crate) struct Alarm<T> {
    scheduler: Arc<Scheduler<T>>,
    entry: Entry,
}

impl<T> Scheduler<T> {
    pub(crate) fn new(uptime: Uptime) -> Arc<Self> {
        Arc::new(Self {
            agenda: Mutex::default(),
            sooner: Notify::new(),
            uptime,
        })
    }

    pub(crate) fn uptime(&self) -> &Uptime {
        &self.uptime
    }

    /// Has `whom` looked at then.
    pub(crate) fn set(self: &Arc<Self>, at: Moment, whom: &Arc<T>) -> Alarm<T> {
        let (entry, is_first) = self.agenda().add(at, Arc::downgrade(whom));
        if is_first {
            self.sooner.notify_one();
        }
        Alarm {
            scheduler: Arc::clone(self),
            entry,
        }
    }

    /// Waits until somebody is due. For one task alone. Nothing is lost when this is dropped.
    pub(crate) async fn next(&self) -> Arc<T> {
        loop {
            let now = self.uptime.now();
            // Held no longer: the last to hold somebody drops their alarm, which needs the agenda.
            let (due, first) = {
                let mut agenda = self.agenda();
                (agenda.due(now), agenda.first())
            };
            match (due, first) {
                (Some((_, whom)), _) => {
                    if let Some(whom) = whom.upgrade() {
                        return whom;
                    }
                }
                (None, Some(first)) => {
                    let wait = Duration::from_millis(first.since(now)).min(SLEEP_MAX);
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = self.sooner.notified() => {}
                    }
                }
                (None, None) => self.sooner.notified().await,
            }
        }
    }

    /// How many are on it.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.agenda().len()
    }

    /// Puts the clock ahead.
    #[cfg(test)]
    pub(crate) fn skip(&self, seconds: u64) {
        self.uptime.skip(seconds);
        self.sooner.notify_one();
    }

    /// An agenda is whole between any two statements.
    fn agenda(&self) -> MutexGuard<'_, Agenda<Weak<T>>> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Alarm<T> {
    fn drop(&mut self) {
        let removed = self.scheduler.agenda().remove(self.entry);
        drop(removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const MOMENT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn each_is_due_at_its_moment_and_who_comes_later_may_be_first() {
        let scheduler = Scheduler::new(Uptime::default());
        let (late, early, soon) = (Arc::new("late"), Arc::new("early"), Arc::new("soon"));
        let at = |seconds| Moment::default().plus_s(seconds);
        let _late = scheduler.set(at(900), &late);
        let _early = scheduler.set(at(600), &early);
        let waiting = {
            let scheduler = Arc::clone(&scheduler);
            tokio::spawn(async move { *scheduler.next().await })
        };
        scheduler.skip(500);
        tokio::task::yield_now().await;
        let _soon = scheduler.set(at(500), &soon);
        assert_eq!(waiting.await.unwrap(), "soon");
        assert!(timeout(MOMENT, scheduler.next()).await.is_err());
        scheduler.skip(400);
        assert_eq!(*scheduler.next().await, "early");
        assert_eq!(*scheduler.next().await, "late");
        assert_eq!(scheduler.len(), 0);
    }

    #[tokio::test]
    async fn who_is_gone_or_called_off_is_not_due_and_leaves_nothing() {
        let scheduler = Scheduler::new(Uptime::default());
        let (gone, called_off) = (Arc::new(1), Arc::new(2));
        let alarm = scheduler.set(Moment::from_ms(1), &gone);
        drop(scheduler.set(Moment::from_ms(2), &called_off));
        drop(gone);
        scheduler.skip(9);
        assert!(timeout(MOMENT, scheduler.next()).await.is_err());
        drop(alarm);
        assert_eq!(scheduler.len(), 0);
    }

    #[tokio::test]
    async fn ten_thousand_who_are_due_at_once_all_come() {
        let scheduler = Scheduler::new(Uptime::default());
        let all: Vec<_> = (0..10_000).map(Arc::new).collect();
        let at = Moment::default().plus_s(100);
        let alarms: Vec<_> = all.iter().map(|one| scheduler.set(at, one)).collect();
        scheduler.skip(100);
        for one in &all {
            assert_eq!(scheduler.next().await, *one);
        }
        drop(alarms);
        assert_eq!(scheduler.len(), 0);
    }
}

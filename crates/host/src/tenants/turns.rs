//! Turns at something of which the host does only so much at once, such as cloning. Who comes while there is a free
//! place takes it with one atomic operation; otherwise calls wait in a [`FairQueue`], so that a tenant with many calls
//! does not make another wait for all of them.
//!
//! One word holds the number of free places and whether somebody waits. While somebody waits only holders of the
//! queue's lock change it, and a place that becomes free goes straight to who is next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{FairQueue, QueueFull};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::auth::Tenant;

/// Calls that may wait for one tenant, and in all. Each is an open connection.
const EACH_MAX: usize = 256;
const ALL_MAX: usize = 4096;

/// Set while the queue may have somebody in it.
const WAITING: u32 = 1 << 31;

#[derive(Debug)]
pub(crate) struct Turnstile {
    places: AtomicU32,
    queue: Mutex<Queue>,
    patience: Duration,
}

#[derive(Debug)]
struct Queue {
    order: FairQueue<Tenant, u64>,
    waiting: HashMap<u64, oneshot::Sender<Turn>>,
    next: u64,
}

/// A place; the next one's when dropped. Empty once it was given on.
#[derive(Debug)]
pub(crate) struct Turn(Option<Arc<Turnstile>>);

/// Why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TurnRefused {
    #[error(transparent)]
    Full(#[from] QueueFull),
    #[error("the host is so busy that the turn of this call did not come within {} s", .0.as_secs())]
    Patience(Duration),
}

/// Takes a call out of the queue when it is given up.
struct Waiter<'a> {
    turnstile: &'a Arc<Turnstile>,
    tenant: Tenant,
    ticket: u64,
}

/// What comes of queueing up.
enum Entry<'a> {
    Turn(Turn),
    Queued(Waiter<'a>, oneshot::Receiver<Turn>),
}

impl Turnstile {
    /// So many at once; a call waits for its turn at most this long.
    pub(crate) fn new(places: u32, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            places: AtomicU32::new(places.clamp(1, WAITING - 1)),
            queue: Mutex::new(Queue {
                order: FairQueue::new(EACH_MAX, ALL_MAX),
                waiting: HashMap::new(),
                next: 0,
            }),
            patience,
        })
    }

    /// Waits for a turn; `cost` is what is going to be made.
    pub(crate) async fn enter(self: &Arc<Self>, tenant: Tenant, cost: u8) -> Result<Turn, TurnRefused> {
        if let Some(turn) = self.try_enter() {
            return Ok(turn);
        }
        let (waiter, mut given) = match self.queue_up(tenant, cost)? {
            Entry::Turn(turn) => return Ok(turn),
            Entry::Queued(waiter, given) => (waiter, given),
        };
        match timeout(self.patience, &mut given).await {
            Ok(Ok(turn)) => Ok(turn),
            // It may have been given in the last moment.
            Ok(Err(_)) | Err(_) => {
                drop(waiter);
                given.try_recv().map_err(|_| TurnRefused::Patience(self.patience))
            }
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Turn> {
        let take = |places: u32| (places & WAITING == 0 && places > 0).then(|| places - 1);
        let taken = self
            .places
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.ok().map(|_| Turn(Some(Arc::clone(self))))
    }

    fn queue_up(self: &Arc<Self>, tenant: Tenant, cost: u8) -> Result<Entry<'_>, TurnRefused> {
        let mut queue = self.queue();
        // Either a place became free, or everybody is told that somebody waits; nothing in between.
        let next = |places: u32| {
            Some(if places > 0 && places & WAITING == 0 {
                places - 1
            } else {
                places | WAITING
            })
        };
        let places = self
            .places
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if matches!(places, Ok(places) if places > 0 && places & WAITING == 0) {
            return Ok(Entry::Turn(Turn(Some(Arc::clone(self)))));
        }
        let ticket = queue.next;
        queue.next += 1;
        if let Err(full) = queue.order.push(tenant, cost.into(), ticket) {
            return Err(full.into());
        }
        let (give, given) = oneshot::channel();
        queue.waiting.insert(ticket, give);
        let waiter = Waiter {
            turnstile: self,
            tenant,
            ticket,
        };
        Ok(Entry::Queued(waiter, given))
    }

    /// A place is free.
    fn leave(self: &Arc<Self>) {
        let give_back = |places: u32| (places & WAITING == 0).then(|| places + 1);
        if self
            .places
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, give_back)
            .is_ok()
        {
            return;
        }
        let mut queue = self.queue();
        let mut place = Turn(Some(Arc::clone(self)));
        while let Some((_, ticket)) = queue.order.pop() {
            let Some(give) = queue.waiting.remove(&ticket) else {
                continue;
            };
            match give.send(place) {
                Ok(()) => return,
                Err(back) => place = back,
            }
        }
        // Nobody is left. Dropping the place must not come here again.
        place.0 = None;
        let places = self.places.load(Ordering::Acquire) & !WAITING;
        self.places.store(places + 1, Ordering::Release);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turnstile) = self.0.take() {
            turnstile.leave();
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut queue = self.turnstile.queue();
        queue.order.cancel(self.tenant, &self.ticket);
        queue.waiting.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_tenant_with_two_calls_does_not_wait_for_the_hundred_of_another() {
        let turnstile = Turnstile::new(1, LONG);
        let first = turnstile.enter(Tenant(1), 1).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut calls = JoinSet::new();
        for number in 0..102 {
            let (turnstile, order) = (Arc::clone(&turnstile), Arc::clone(&order));
            let tenant = if number < 100 { 1 } else { 2 };
            calls.spawn(async move {
                let _turn = turnstile.enter(Tenant(tenant), 1).await.unwrap();
                order.lock().unwrap().push(tenant);
            });
        }
        while turnstile.queue().order.len() < 102 {
            tokio::task::yield_now().await;
        }
        drop(first);
        calls.join_all().await;
        let order = order.lock().unwrap();
        assert!(
            order[..5].iter().filter(|tenant| **tenant == 2).count() == 2,
            "{order:?}"
        );
        assert_eq!(turnstile.places.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn calls_that_give_up_lose_no_place_and_leave_nothing_in_the_queue() {
        let turnstile = Turnstile::new(2, Duration::from_millis(20));
        let held = [
            turnstile.enter(Tenant(1), 1).await.unwrap(),
            turnstile.enter(Tenant(1), 1).await.unwrap(),
        ];
        let refused = turnstile.enter(Tenant(2), 1).await.unwrap_err();
        assert!(matches!(refused, TurnRefused::Patience(_)));
        // It is looked at once, which puts it into the queue, and dropped.
        let entering = turnstile.enter(Tenant(2), 1);
        let given_up = tokio::select! {
            biased;
            _ = entering => false,
            () = std::future::ready(()) => true,
        };
        assert!(given_up);
        assert!(turnstile.queue().order.is_empty() && turnstile.queue().waiting.is_empty());
        drop(held);
        let _both = [
            turnstile.enter(Tenant(2), 1).await.unwrap(),
            turnstile.enter(Tenant(2), 1).await.unwrap(),
        ];
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn places_are_never_more_and_never_lost() {
        let turnstile = Turnstile::new(3, LONG);
        let inside = Arc::new(AtomicU32::new(0));
        let mut calls = JoinSet::new();
        for number in 0..400 {
            let (turnstile, inside) = (Arc::clone(&turnstile), Arc::clone(&inside));
            calls.spawn(async move {
                let entering = turnstile.enter(Tenant(number % 7), 1);
                // Some give up, before their turn or after.
                let patience = Duration::from_micros(if number % 5 == 0 { 50 } else { 20_000_000 });
                let Ok(Ok(_turn)) = timeout(patience, entering).await else {
                    return;
                };
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }
        calls.join_all().await;
        assert_eq!(turnstile.places.load(Ordering::SeqCst), 3);
    }
}

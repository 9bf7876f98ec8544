//! Admission by count: what all sandboxes together may need stays within a budget.
//!
//! One that is booted counts for all of its memory, a clone for what clones of its kind were measured to need of their
//! own; see [`crate::memory`] for what keeps the second from being too little.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a create waits for sandboxes that are just ending to give back their memory.
const RELEASE_WAIT: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Budget {
    total_mib: u64,
    books: Mutex<Books>,
    released: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Books {
    used_mib: u64,
    /// The part of it that will be given back soon.
    ending_mib: u64,
    /// Calls that get what is given back before all others.
    first: u32,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    mib: u64,
    ending: bool,
}

/// The budget does not have that much left, all in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget {
    pub(crate) wanted_mib: u64,
    pub(crate) used_mib: u64,
    pub(crate) total_mib: u64,
}

impl Budget {
    pub(crate) fn new(total_mib: u64) -> Arc<Self> {
        Arc::new(Self {
            total_mib,
            books: Mutex::default(),
            released: Notify::new(),
        })
    }

    pub(crate) fn total_mib(&self) -> u64 {
        self.total_mib
    }

    pub(crate) fn used_mib(&self) -> u64 {
        self.with(|books| books.used_mib)
    }

    /// Takes a part, waiting a little when sandboxes that are ending will make room.
    pub(crate) async fn reserve(self: &Arc<Self>, mib: u64) -> Result<Reservation, OverBudget> {
        let waited = timeout(RELEASE_WAIT, async {
            loop {
                // Listening starts before looking, so that no release falls in between.
                let released = self.released.notified();
                let books = match self.take(mib) {
                    Ok(reservation) => return Ok(reservation),
                    Err(books) => books,
                };
                if books.used_mib - books.ending_mib + mib > self.total_mib {
                    return Err(self.over(mib));
                }
                released.await;
            }
        });
        waited.await.unwrap_or_else(|_| Err(self.over(mib)))
    }

    /// Takes a part before all others, waiting for somebody to give it back.
    pub(crate) async fn reserve_first(
        self: &Arc<Self>,
        mib: u64,
        patience: Duration,
    ) -> Result<Reservation, OverBudget> {
        let _first = First::new(self);
        let waited = timeout(patience, async {
            loop {
                let released = self.released.notified();
                if let Ok(reservation) = self.take_as(mib, true) {
                    return reservation;
                }
                released.await;
            }
        });
        waited.await.map_err(|_| self.over(mib))
    }

    /// Takes a part for what exists already, whether or not there is room for it.
    pub(crate) fn take_anyway(self: &Arc<Self>, mib: u64) -> Reservation {
        self.with(|books| books.used_mib += mib);
        Reservation {
            budget: Arc::clone(self),
            mib,
            ending: false,
        }
    }

    /// Takes a part without waiting.
    pub(crate) fn take_now(self: &Arc<Self>, mib: u64) -> Result<Reservation, OverBudget> {
        self.take(mib).map_err(|_| self.over(mib))
    }

    fn take(self: &Arc<Self>, mib: u64) -> Result<Reservation, Books> {
        self.take_as(mib, false)
    }

    fn take_as(self: &Arc<Self>, mib: u64, is_first: bool) -> Result<Reservation, Books> {
        self.with(|books| {
            if books.used_mib + mib > self.total_mib || (books.first > 0 && !is_first) {
                return Err(*books);
            }
            books.used_mib += mib;
            Ok(Reservation {
                budget: Arc::clone(self),
                mib,
                ending: false,
            })
        })
    }

    fn over(&self, wanted_mib: u64) -> OverBudget {
        OverBudget {
            wanted_mib,
            used_mib: self.used_mib(),
            total_mib: self.total_mib,
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Books) -> T) -> T {
        // The books are whole between any two statements, so another thread's panic does not spoil them.
        work(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// While it lives, others than those who hold one get nothing.
struct First<'a>(&'a Arc<Budget>);

impl<'a> First<'a> {
    fn new(budget: &'a Arc<Budget>) -> Self {
        budget.with(|books| books.first += 1);
        Self(budget)
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.0.with(|books| books.first -= 1);
        self.0.released.notify_waiters();
    }
}

impl Reservation {
    pub(crate) fn mib(&self) -> u64 {
        self.mib
    }

    /// It will be dropped soon.
    pub(crate) fn end(&mut self) {
        if !self.ending {
            self.ending = true;
            self.budget.with(|books| books.ending_mib += self.mib);
        }
    }

    /// Takes a part of it, or what is left when that is less.
    pub(crate) fn split(&mut self, mib: u64) -> Self {
        let mib = mib.min(self.mib);
        self.mib -= mib;
        if self.ending {
            self.budget.with(|books| books.ending_mib -= mib);
        }
        Self {
            budget: Arc::clone(&self.budget),
            mib,
            ending: false,
        }
    }

    /// Gives back all of it now: the VM is gone, though the sandbox is still known.
    pub(crate) fn shrink(&mut self) {
        self.give_back();
        self.mib = 0;
    }

    fn give_back(&self) {
        self.budget.with(|books| {
            books.used_mib -= self.mib;
            if self.ending {
                books.ending_mib -= self.mib;
            }
        });
        self.budget.released.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_refused_with_the_figures_and_fits_again_after_a_release() {
        let budget = Budget::new(1000);
        let first = budget.reserve(700).await.unwrap();
        let refusal = budget.reserve(400).await.unwrap_err();
        let expected = OverBudget {
            wanted_mib: 400,
            used_mib: 700,
            total_mib: 1000,
        };
        assert_eq!(refusal, expected);
        drop(first);
        assert_eq!(budget.reserve(1000).await.unwrap().mib, 1000);
        assert_eq!(budget.used_mib(), 0);
    }

    #[tokio::test]
    async fn who_comes_first_gets_what_is_given_back_though_others_ask_all_the_time() {
        let budget = Budget::new(1000);
        let all = budget.take_now(1000).unwrap();
        let waiting = {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move { budget.reserve_first(300, Duration::from_secs(20)).await })
        };
        while budget.with(|books| books.first) == 0 {
            tokio::task::yield_now().await;
        }
        drop(all);
        budget.take_now(1).unwrap_err();
        let got = waiting.await.unwrap().unwrap();
        assert_eq!((got.mib, budget.used_mib()), (300, 300));
        budget.take_now(700).unwrap();
        let gave_up = budget.reserve_first(1001, Duration::from_millis(5)).await;
        assert_eq!(gave_up.unwrap_err().wanted_mib, 1001);
        budget.take_now(1).unwrap();
    }

    #[tokio::test]
    async fn a_create_waits_for_memory_that_is_being_given_back() {
        let budget = Budget::new(1000);
        let mut first = budget.reserve(700).await.unwrap();
        first.end();
        let later = tokio::spawn(async move {
            tokio::task::yield_now().await;
            drop(first);
        });
        budget.reserve(400).await.unwrap();
        later.await.unwrap();
    }
}

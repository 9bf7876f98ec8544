//! Whose turn it is: a queue that serves its tenants equally, however much one of them puts into it.
//!
//! Each tenant has a queue of its own and a clock that advances by the cost of what was served from it; the tenant
//! whose clock is furthest behind is next (start-time fair queueing). A tenant that comes after a pause starts at the
//! present: it gets no credit for the time in which it wanted nothing.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

/// Waiting work of tenants `K`.
#[derive(Clone, Debug)]
pub struct FairQueue<K, T> {
    tenants: BTreeMap<K, Line<T>>,
    /// Clock of the tenant that was served last.
    present: u64,
    each_max: usize,
    all_max: usize,
    len: usize,
}

#[derive(Clone, Debug)]
struct Line<T> {
    clock: u64,
    waiting: VecDeque<(u64, T)>,
}

/// Why something cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QueueFull {
    #[error("{max} calls of this tenant are waiting for their turn already")]
    Tenant { max: usize },
    #[error("{max} calls are waiting for their turn already")]
    All { max: usize },
}

impl<K: Copy + Ord, T: PartialEq> FairQueue<K, T> {
    /// At most `each_max` may wait for one tenant, and `all_max` in all.
    #[must_use]
    pub fn new(each_max: usize, all_max: usize) -> Self {
        Self {
            tenants: BTreeMap::new(),
            present: 0,
            each_max,
            all_max,
            len: 0,
        }
    }

    /// Puts something at the end of a tenant's line.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn push(&mut self, tenant: K, cost: u64, item: T) -> Result<(), QueueFull> {
        let in_line = self.tenants.get(&tenant).map_or(0, |line| line.waiting.len());
        if in_line >= self.each_max {
            return Err(QueueFull::Tenant { max: self.each_max });
        }
        if self.len >= self.all_max {
            return Err(QueueFull::All { max: self.all_max });
        }
        let present = self.present;
        let line = self.tenants.entry(tenant).or_insert_with(|| Line {
            clock: present,
            waiting: VecDeque::new(),
        });
        if line.waiting.is_empty() {
            line.clock = line.clock.max(present);
        }
        line.waiting.push_back((cost, item));
        self.len += 1;
        Ok(())
    }

    /// What is next.
    pub fn pop(&mut self) -> Option<(K, T)> {
        let waiting = self
            .tenants
            .iter_mut()
            .filter(|(_, line)| !line.waiting.is_empty());
        let (tenant, line) = waiting.min_by_key(|(_, line)| line.clock)?;
        let (cost, item) = line.waiting.pop_front()?;
        let tenant = *tenant;
        self.present = line.clock;
        line.clock = line.clock.saturating_add(cost.max(1));
        self.len -= 1;
        self.forget();
        Some((tenant, item))
    }

    /// Takes back what has not been served.
    pub fn cancel(&mut self, tenant: K, item: &T) {
        if let Some(line) = self.tenants.get_mut(&tenant) {
            let before = line.waiting.len();
            line.waiting.retain(|(_, waiting)| waiting != item);
            self.len -= before - line.waiting.len();
        }
        self.forget();
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tenants that want nothing and owe nothing need not be remembered.
    fn forget(&mut self) {
        let present = self.present;
        self.tenants
            .retain(|_, line| !line.waiting.is_empty() || line.clock > present);
        if self.len == 0 {
            self.tenants.clear();
            self.present = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_that_puts_much_in_does_not_make_another_wait_for_all_of_it() {
        let mut queue = FairQueue::new(100, 1000);
        (0..50).for_each(|item| queue.push('a', 1, item).unwrap());
        assert_eq!(queue.pop(), Some(('a', 0)));
        queue.push('b', 1, 100).unwrap();
        queue.push('b', 1, 101).unwrap();
        let next: String = (0..5)
            .filter_map(|_| queue.pop())
            .map(|(tenant, _)| tenant)
            .collect();
        assert_eq!(next.matches('b').count(), 2, "{next}");
    }

    #[test]
    fn a_fork_of_many_counts_as_many() {
        let mut queue = FairQueue::new(100, 1000);
        (0..9).for_each(|item| queue.push('a', 8, item).unwrap());
        (0..9).for_each(|item| queue.push('b', 1, item).unwrap());
        let next: String = (0..10)
            .filter_map(|_| queue.pop())
            .map(|(tenant, _)| tenant)
            .collect();
        assert_eq!(next, "abbbbbbbba");
    }

    #[test]
    fn both_bounds_hold_and_what_is_taken_back_makes_room() {
        let mut queue = FairQueue::new(2, 3);
        queue.push('a', 1, 1).unwrap();
        queue.push('a', 1, 2).unwrap();
        assert_eq!(queue.push('a', 1, 3), Err(QueueFull::Tenant { max: 2 }));
        queue.push('b', 1, 4).unwrap();
        assert_eq!(queue.push('b', 1, 5), Err(QueueFull::All { max: 3 }));
        queue.cancel('a', &1);
        queue.push('b', 1, 5).unwrap();
        assert_eq!((queue.len(), queue.pop()), (3, Some(('a', 2))));
    }

    proptest! {
        #[test]
        fn tenants_that_always_wait_are_served_alike(
            costs in proptest::collection::vec(proptest::collection::vec(1_u64..33, 64), 2..5),
            served in 1_usize..60,
        ) {
            let mut queue = FairQueue::new(100, 1000);
            for (tenant, costs) in costs.iter().enumerate() {
                for (item, cost) in costs.iter().enumerate() {
                    queue.push(tenant, *cost, item).unwrap();
                }
            }
            let mut got = vec![0_u64; costs.len()];
            for _ in 0..served {
                let (tenant, item) = queue.pop().unwrap();
                got[tenant] += costs[tenant][item];
            }
            // Within the cost of one call: nothing is begun before its tenant's turn, and nothing is broken off.
            prop_assert!(got.iter().max().unwrap() - got.iter().min().unwrap() <= 32);
        }

        #[test]
        fn everything_comes_out_once_and_in_order(puts in proptest::collection::vec((0_u8..4, 1_u64..9), 0..100)) {
            let mut queue = FairQueue::new(100, 1000);
            for (item, (tenant, cost)) in puts.iter().enumerate() {
                queue.push(*tenant, *cost, item).unwrap();
            }
            let out: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(out.len(), puts.len());
            for tenant in 0..4 {
                let items: Vec<_> = out.iter().filter(|(of, _)| *of == tenant).map(|(_, item)| *item).collect();
                prop_assert!(items.is_sorted());
            }
            prop_assert!(queue.tenants.is_empty());
        }
    }
}

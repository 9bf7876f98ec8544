//! What became of sandboxes whose time ran out, for clients that come back.
//!
//! Their ids are as unknown as ids that never were. This only lets the error say more, to their own tenant, until so
//! many others have gone that it is forgotten.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lifecycle::{Expiry, Moment};
use pod_types::SandboxId;

use crate::auth::Tenant;

/// How many are remembered, at some hundred bytes each.
const REMEMBERED_MAX: usize = 4096;

/// What became of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) which: Expiry,
    /// The time that ran out.
    pub(crate) after_s: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Obituaries(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    notices: HashMap<SandboxId, Notice>,
    /// Oldest first.
    order: VecDeque<SandboxId>,
}

#[derive(Clone, Copy, Debug)]
struct Notice {
    tenant: Tenant,
    fate: Fate,
    at: Moment,
}

impl Obituaries {
    pub(crate) fn write(&self, id: SandboxId, tenant: Tenant, fate: Fate, at: Moment) {
        let mut book = self.book();
        if book.order.len() == REMEMBERED_MAX
            && let Some(oldest) = book.order.pop_front()
        {
            book.notices.remove(&oldest);
        }
        let notice = Notice { tenant, fate, at };
        if book.notices.insert(id, notice).is_none() {
            book.order.push_back(id);
        }
    }

    /// What became of a tenant's sandbox, and how many seconds ago.
    pub(crate) fn of(&self, id: SandboxId, tenant: Tenant, now: Moment) -> Option<(Fate, u64)> {
        let book = self.book();
        let notice = book.notices.get(&id)?;
        let is_theirs = tenant.may_see(notice.tenant);
        is_theirs.then(|| (notice.fate, now.since(notice.at) / 1000))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after_s = self.after_s;
        match self.which {
            Expiry::Lifetime => write!(f, "it had reached its lifetime of {after_s} s"),
            Expiry::Idle => write!(f, "it had been idle for {after_s} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_strangers_learn_nothing() {
        let obituaries = Obituaries::default();
        let fate = Fate {
            which: Expiry::Idle,
            after_s: 300,
        };
        let ids: Vec<_> = (0..=REMEMBERED_MAX)
            .map(|_| SandboxId::random().unwrap())
            .collect();
        for id in &ids {
            obituaries.write(*id, Tenant(1), fate, Moment::from_ms(1000));
        }
        let of = |id: SandboxId, tenant| obituaries.of(id, Tenant(tenant), Moment::from_ms(8999));
        assert_eq!(of(ids[0], 1), None);
        assert_eq!(of(ids[1], 1), Some((fate, 7)));
        assert_eq!(of(ids[1], 2), None);
        assert_eq!(obituaries.book().notices.len(), REMEMBERED_MAX);
        assert_eq!(fate.to_string(), "it had been idle for 300 s");
    }
}

//! Whom the bytes of a wire are charged to.

use std::fmt;
use std::sync::Arc;

use net_proto::Counters;

use crate::tenants::Account;

#[derive(Default)]
pub(super) struct Charge {
    account: Option<Arc<Account>>,
    /// What of its counters has been charged.
    charged: Counters,
}

impl Charge {
    /// From now on it is this account's.
    pub(super) fn to(&mut self, account: Arc<Account>) {
        self.account = Some(account);
    }

    /// Its counters begin at nothing.
    pub(super) fn begin_anew(&mut self) {
        self.charged = Counters::default();
    }

    pub(super) fn count(&mut self, counters: &Counters) {
        let more = |now: u64, before: u64| now.saturating_sub(before);
        if let Some(account) = &self.account {
            let sent = more(counters.bytes_up, self.charged.bytes_up);
            let received = more(counters.bytes_down, self.charged.bytes_down);
            account.usage().network(sent, received);
        }
        self.charged = *counters;
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge")
            .field("charged", &self.charged)
            .finish_non_exhaustive()
    }
}

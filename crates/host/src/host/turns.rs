//! Where creations and forks take turns when more come than the host can make at once.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::auth::Tenant;
use crate::config::HostConfig;
use crate::tenants::{Turn, TurnRefused, Turnstile};

/// A zygote and a forked VM make their clones one after the other, and only a part of the work is beside that: more at
/// once than these, or than twice the CPUs, would make each slower and none sooner.
const CLONES_AT_ONCE_MIN: usize = 8;

pub(super) struct Turns {
    boots: Arc<Turnstile>,
    forks: Arc<Turnstile>,
    /// By template: one whose snapshot is being made does not hold up another.
    clones: BTreeMap<String, Arc<Turnstile>>,
}

impl Turns {
    pub(super) fn new(config: &HostConfig) -> Self {
        let patience = config.timing.turn_patience;
        let cpus = available_parallelism().map_or(1, NonZeroUsize::get);
        let at_once = u32::try_from((2 * cpus).max(CLONES_AT_ONCE_MIN)).unwrap_or(u32::MAX);
        let clones = config.templates.names();
        let clones = clones.map(|name| (name.to_owned(), Turnstile::new(at_once, patience)));
        Self {
            boots: Turnstile::new(config.boots_at_once, patience),
            // The client of a fork gives up after a minute of silence.
            forks: Turnstile::new(at_once, patience / 2),
            clones: clones.collect(),
        }
    }

    pub(super) async fn boot(&self, tenant: Tenant) -> Result<Turn, TurnRefused> {
        self.boots.enter(tenant, 1).await
    }

    pub(super) async fn fork(&self, tenant: Tenant, children: u8) -> Result<Turn, TurnRefused> {
        self.forks.enter(tenant, children).await
    }

    pub(super) async fn clone_of(&self, template: &str, tenant: Tenant) -> Result<Option<Turn>, TurnRefused> {
        match self.clones.get(template) {
            Some(turnstile) => turnstile.enter(tenant, 1).await.map(Some),
            None => Ok(None),
        }
    }
}

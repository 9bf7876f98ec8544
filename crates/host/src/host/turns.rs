//! Where creations and forks take turns when more come than the host can make at once.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::auth::Tenant;
use crate::config::HostConfig;
use crate::tenants::{Turn, TurnRefused, Turnstile};

/// Creations and forks at once beyond one for each CPU: a zygote and a forked VM make their clones one after the other, and
/// what is beside that is work of a CPU. More would make each slower and none sooner, and those of one tenant with
/// many would be that many to one of another.
const BESIDE_CPUS: usize = 2;

pub(super) struct Turns {
    boots: Arc<Turnstile>,
    forks: Arc<Turnstile>,
    /// By template: one whose snapshot is being made does not hold up another.
    clones: BTreeMap<String, Arc<Turnstile>>,
}

/// For what a call waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    Boot,
    /// With so many children.
    Fork(u8),
    /// Of the template of that name, or out of its pool.
    Clone(&'a str),
}

impl Turns {
    pub(super) fn new(config: &HostConfig) -> Self {
        let patience = config.timing.turn_patience;
        let cpus = available_parallelism().map_or(1, NonZeroUsize::get);
        let at_once = u32::try_from(cpus + BESIDE_CPUS).unwrap_or(u32::MAX);
        let clones = config.templates.names();
        let clones = clones.map(|name| (name.to_owned(), Turnstile::new(at_once, patience)));
        Self {
            boots: Turnstile::new(config.boots_at_once, patience),
            // The client of a fork gives up after a minute of silence.
            forks: Turnstile::new(at_once, patience / 2),
            clones: clones.collect(),
        }
    }

    pub(super) async fn enter(&self, line: Line<'_>, tenant: Tenant) -> Result<Turn, TurnRefused> {
        match line {
            Line::Boot => self.boots.enter(tenant, 1).await,
            Line::Fork(children) => self.forks.enter(tenant, children).await,
            // Every template has one; boots are the narrowest line there is.
            Line::Clone(template) => {
                self.clones
                    .get(template)
                    .unwrap_or(&self.boots)
                    .enter(tenant, 1)
                    .await
            }
        }
    }
}

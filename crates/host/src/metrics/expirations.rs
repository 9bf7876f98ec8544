//! Sandboxes whose time ran out.

use lifecycle::Expiry;
use prometheus_client::metrics::counter::Counter;

use super::families::Families;

#[derive(Debug)]
pub(crate) struct Expirations {
    lifetime: Counter,
    idle: Counter,
}

impl Expirations {
    pub(super) fn new(families: &mut Families<'_>) -> Self {
        let help = "Sandboxes whose lifetime was over, or that nobody had used for too long";
        let mut counters = families
            .counters("sandbox_expirations", help, ("which", &["lifetime", "idle"]))
            .into_iter();
        Self {
            lifetime: counters.next().unwrap_or_default(),
            idle: counters.next().unwrap_or_default(),
        }
    }

    pub(crate) fn count(&self, which: Expiry) {
        match which {
            Expiry::Lifetime => self.lifetime.inc(),
            Expiry::Idle => self.idle.inc(),
        };
    }
}

//! What a sandbox may reach.

use std::sync::Arc;
use std::time::Duration;

use egress::Policy;

use super::handle::Sandbox;
use crate::network::InForce;

/// How long the network process may take until a change holds. One that takes longer is killed before this is over, and
/// with it every connection there is.
const IN_FORCE_BOUND: Duration = Duration::from_secs(15);

/// It is not known whether a change holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotInForce;

impl Sandbox {
    /// What it may reach at this moment.
    pub(crate) fn egress(&self) -> Policy {
        self.wire.policy().unwrap_or_else(|| self.spec.egress.clone())
    }

    /// Its wire is its own: what goes over it is its tenant's, and it reaches what was asked for. Does not wait.
    pub(crate) fn open_network(&self) {
        self.wire.charge(Arc::clone(&self.account));
        self.wire.set_policy(self.spec.egress.clone());
    }

    /// Its wire has come with what it may reach.
    pub(crate) fn inherit_network(&self) {
        self.wire.charge(Arc::clone(&self.account));
    }

    /// Waits until what it may reach is so. Where there is no network process that is so already: nothing can be reached.
    pub(crate) async fn network_settles(&self) -> Result<(), NotInForce> {
        match self.wire.in_force(IN_FORCE_BOUND).await {
            InForce::Yes | InForce::Nothing => Ok(()),
            InForce::Unsure => Err(NotInForce),
        }
    }

    /// The same for a sandbox that is new to its client: one that is held to a list shall find what is on it, and one that
    /// may use secrets shall have them. Nobody else needs to wait.
    pub(crate) async fn network_is_ready(&self) {
        let waits = matches!(self.spec.egress, Policy::List(_)) || !self.spec.secrets.is_empty();
        if waits && self.network_settles().await.is_err() {
            tracing::warn!(sandbox_id = %self.id(), "a sandbox begins without its network");
        }
    }
}

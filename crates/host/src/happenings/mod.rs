//! What happens to sandboxes, told in one place to whoever wants to know.
//!
//! ```text
//!  host, owner, freezer, scheduler ──tell──▶ Happenings ──▶ the log
//!                                                      └──▶ webhooks of the sandbox's tenant
//! ```
//!
//! Telling never waits: where nobody listens it costs one look at a counter. Every id that a client was given has one
//! last word: it was destroyed, frozen, or merged into another. `Expired` comes before that and says why.

mod told;

use std::sync::Arc;

use lifecycle::{EndReason, Expiry};
use pod_types::SandboxId;

use crate::sandbox::Sandbox;
use crate::webhooks::Webhooks;

pub(crate) use told::Told;

/// What happened to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Created,
    /// It is a copy of this one.
    Forked {
        parent: SandboxId,
    },
    /// It is known under this id now, and its own is unknown.
    Merged {
        into: SandboxId,
    },
    /// It is on the disk, in this space, and its id is unknown.
    Frozen {
        space: String,
    },
    /// It came out of this space, under a new id.
    Resumed {
        space: String,
    },
    Destroyed {
        reason: EndReason,
    },
    Expired {
        which: Expiry,
    },
}

/// The way in. One for the whole host.
#[derive(Clone, Debug)]
pub(crate) struct Happenings {
    webhooks: Arc<Webhooks>,
}

impl Happening {
    /// How an end is told. Ends of which no client knew anything, and ends of what lives on under another VM, are not.
    pub(crate) fn of_end(reason: EndReason) -> Option<Self> {
        match reason {
            EndReason::Deleted | EndReason::Expired(_) | EndReason::Shutdown => {
                Some(Self::Destroyed { reason })
            }
            EndReason::Merged
            | EndReason::Frozen
            | EndReason::RolledBack
            | EndReason::Abandoned
            | EndReason::BootFailed => None,
        }
    }
}

impl Happenings {
    pub(crate) fn new(webhooks: Arc<Webhooks>) -> Self {
        Self { webhooks }
    }

    /// Waits for listeners that are far behind; not for long, and hardly ever at all. For those whose wish will lead to
    /// more happenings.
    pub(crate) async fn pace(&self) {
        self.webhooks.pace().await;
    }

    /// Tells what happened to a sandbox, under the id it has now.
    pub(crate) fn tell(&self, sandbox: &Sandbox, happening: Happening) {
        self.tell_as(sandbox.id(), sandbox, happening);
    }

    /// The same under the id that it had when it happened.
    pub(crate) fn tell_as(&self, id: SandboxId, sandbox: &Sandbox, happening: Happening) {
        self.webhooks.tell(&Told::now(id, sandbox, happening));
    }
}

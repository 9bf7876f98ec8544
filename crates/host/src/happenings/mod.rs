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

use lifecycle::EndReason;
use pod_types::SandboxId;

use crate::sandbox::Sandbox;

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
    #[allow(dead_code, reason = "told by who freezes")]
    Frozen {
        space: String,
    },
    /// It came out of this space, under a new id.
    #[allow(dead_code, reason = "told by who resumes")]
    Resumed {
        space: String,
    },
    Destroyed {
        reason: EndReason,
    },
    #[allow(dead_code, reason = "told by who keeps the time")]
    Expired {
        which: Expiry,
    },
}

/// Which of its two times has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "told by who keeps the time")]
pub(crate) enum Expiry {
    Lifetime,
    Idle,
}

/// The way in. One for the whole host.
#[derive(Debug, Default)]
pub(crate) struct Happenings {}

impl Happening {
    /// How an end is told. Ends of which no client knew anything, and ends of what lives on under another VM, are not.
    pub(crate) fn of_end(reason: EndReason) -> Option<Self> {
        match reason {
            EndReason::Deleted | EndReason::Shutdown => Some(Self::Destroyed { reason }),
            EndReason::Merged | EndReason::Abandoned | EndReason::BootFailed => None,
        }
    }
}

impl Happenings {
    /// Tells what happened to a sandbox, under the id it has now.
    pub(crate) fn tell(&self, sandbox: &Sandbox, happening: Happening) {
        self.tell_as(sandbox.id(), sandbox, happening);
    }

    /// The same under the id that it had when it happened.
    #[expect(clippy::unused_self, reason = "listeners come next")]
    pub(crate) fn tell_as(&self, id: SandboxId, sandbox: &Sandbox, happening: Happening) {
        let told = Told::now(id, sandbox, happening);
        tracing::trace!(?told, "told");
    }
}

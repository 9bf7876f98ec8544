//! From what happened to what is sent.

use api::{WebhookEvent, WebhookPayload};
use lifecycle::{EndReason, Expiry};
use pod_types::IdError;

use super::secret;
use crate::happenings::{Happening, Told};

/// An event as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) body: String,
}

pub(super) fn event(happening: &Happening) -> WebhookEvent {
    match happening {
        Happening::Created => WebhookEvent::Created,
        Happening::Forked { .. } => WebhookEvent::Forked,
        Happening::Merged { .. } => WebhookEvent::Merged,
        Happening::Frozen { .. } => WebhookEvent::Frozen,
        Happening::Resumed { .. } => WebhookEvent::Resumed,
        Happening::Destroyed { .. } => WebhookEvent::Destroyed,
        Happening::Expired { .. } => WebhookEvent::Expired,
    }
}

/// Draws an id and writes the body.
pub(super) fn written(told: &Told, region: Option<&str>) -> Result<Event, IdError> {
    let mut payload = blank(event(&told.happening).name(), told.at_ms, region)?;
    payload.sandbox_id = Some(told.sandbox);
    match &told.happening {
        Happening::Created => {}
        Happening::Forked { parent } => payload.parent_id = Some(*parent),
        Happening::Merged { into } => payload.into = Some(*into),
        Happening::Frozen { space } | Happening::Resumed { space } => payload.space_id = Some(space.clone()),
        Happening::Destroyed { reason } => payload.reason = Some(end(*reason).to_owned()),
        Happening::Expired { which } => payload.reason = Some(expiry(*which).to_owned()),
    }
    Ok(Event::of(&payload))
}

/// A payload that says nothing yet.
pub(super) fn blank(kind: &str, ts: u64, region: Option<&str>) -> Result<WebhookPayload, IdError> {
    Ok(WebhookPayload {
        kind: kind.to_owned(),
        id: secret::id("evt_")?,
        ts,
        region: region.map(str::to_owned),
        sandbox_id: None,
        space_id: None,
        parent_id: None,
        into: None,
        reason: None,
    })
}

impl Event {
    pub(super) fn of(payload: &WebhookPayload) -> Self {
        Self {
            id: payload.id.clone(),
            // Texts and numbers only, so this does not fail.
            body: serde_json::to_string(payload).unwrap_or_default(),
        }
    }
}

fn end(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Deleted => "deleted",
        EndReason::Merged => "merged",
        EndReason::Abandoned => "abandoned",
        EndReason::Expired(_) => "expired",
        EndReason::Frozen => "frozen",
        EndReason::RolledBack => "rolled_back",
        EndReason::BootFailed => "boot_failed",
        EndReason::Shutdown => "host_shutdown",
    }
}

fn expiry(which: Expiry) -> &'static str {
    match which {
        Expiry::Lifetime => "lifetime",
        Expiry::Idle => "idle",
    }
}

//! What can be told, and how it reads.

use std::fmt;
use std::str::FromStr;

use pod_types::SandboxId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::openapi::SandboxIdText;

/// The `type` of what `…/test` sends. Nobody subscribes to it.
pub const WEBHOOK_TEST_TYPE: &str = "webhook.test";

/// What a webhook can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WebhookEvent {
    /// A sandbox was created.
    #[serde(rename = "sandbox.created")]
    Created,
    /// It was made as a copy of another, `parent_id`.
    #[serde(rename = "sandbox.forked")]
    Forked,
    /// It took the place of another and is known as `into` now; its own id is unknown.
    #[serde(rename = "sandbox.merged")]
    Merged,
    /// It is on the disk as `space_id`; its own id is unknown.
    #[serde(rename = "sandbox.frozen")]
    Frozen,
    /// It came out of `space_id`.
    #[serde(rename = "sandbox.resumed")]
    Resumed,
    /// It is gone, for the `reason` given.
    #[serde(rename = "sandbox.destroyed")]
    Destroyed,
    /// Its lifetime or idle time is over. What became of it is told as well.
    #[serde(rename = "sandbox.expired")]
    Expired,
}

/// The body of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookPayload {
    /// `sandbox.created` and so on, or `webhook.test`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of the event: the same in every attempt, every replay and for every webhook. The header `webhook-id` has it,
    /// too.
    pub id: String,
    /// When it happened, in milliseconds since the Unix epoch.
    pub ts: u64,
    /// The host's region, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SandboxIdText>")]
    pub sandbox_id: Option<SandboxId>,
    /// `frozen`, `resumed`: the space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_id: Option<String>,
    /// `forked`: what it is a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SandboxIdText>")]
    pub parent_id: Option<SandboxId>,
    /// `merged`: what it is known as now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SandboxIdText>")]
    pub into: Option<SandboxId>,
    /// `destroyed`: `deleted`, `expired` or `host_shutdown`; `expired`: `lifetime` or `idle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl WebhookEvent {
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Forked,
        Self::Merged,
        Self::Frozen,
        Self::Resumed,
        Self::Destroyed,
        Self::Expired,
    ];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "sandbox.created",
            Self::Forked => "sandbox.forked",
            Self::Merged => "sandbox.merged",
            Self::Frozen => "sandbox.frozen",
            Self::Resumed => "sandbox.resumed",
            Self::Destroyed => "sandbox.destroyed",
            Self::Expired => "sandbox.expired",
        }
    }

    /// All of them, for people.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for WebhookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WebhookEvent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|event| event.name() == text);
        found.ok_or_else(|| format!("expected one of {}", Self::names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_and_are_serialized_alike() {
        for event in WebhookEvent::ALL {
            assert_eq!(event.name().parse(), Ok(event));
            assert_eq!(serde_json::to_value(event).unwrap(), event.name());
        }
        assert!("sandbox.eaten".parse::<WebhookEvent>().is_err());
    }
}

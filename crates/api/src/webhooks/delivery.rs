//! Deliveries: what was sent, and what came of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::WebhookPayload;
use crate::admin::{query_number, query_value};
use crate::fields::InvalidRequest;

/// Most deliveries of one page.
pub const DELIVERIES_LIMIT_MAX: u64 = 200;

const LIMIT_DEFAULT: u64 = 50;
const ID_LEN_MAX: usize = 64;

/// `GET /v1/webhooks/{webhook}/deliveries?limit=50&before=ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveriesQuery {
    pub limit: u64,
    /// Only those that are older than this one.
    pub before: Option<String>,
}

/// One event on its way to one webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryInfo {
    /// `dlv_` and 32 hexadecimal digits.
    pub id: String,
    pub state: DeliveryState,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When it is sent again, in milliseconds since the Unix epoch, if it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<u64>,
    /// The delivery that it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
    /// What is sent.
    pub payload: WebhookPayload,
    /// Oldest first.
    pub attempts: Vec<AttemptInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits to be sent, or sent again.
    Pending,
    /// The receiver has answered with 2xx.
    Delivered,
    /// It is not tried any more.
    Failed,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptInfo {
    /// Counted from 1.
    pub attempt: u32,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub duration_ms: u64,
    /// Of the receiver's answer, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How the answer's body begins, at most 1 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

/// A page of deliveries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryList {
    pub deliveries: Vec<DeliveryInfo>,
    /// The `before` of the next page, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_before: Option<String>,
}

impl DeliveriesQuery {
    /// Validates a query.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(query: &str) -> Result<Self, InvalidRequest> {
        let before = match query_value(query, "before") {
            Some(value) if value.len() > ID_LEN_MAX => {
                return Err(InvalidRequest::value("before", "the id of a delivery", value));
            }
            value => value.map(str::to_owned),
        };
        let limit = query_number(query, "limit", (1, DELIVERIES_LIMIT_MAX))?;
        Ok(Self {
            limit: limit.unwrap_or(LIMIT_DEFAULT),
            before,
        })
    }
}

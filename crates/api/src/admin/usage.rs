//! What tenants have used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::query_number;
use crate::fields::InvalidRequest;

/// Days that are kept.
pub const USAGE_DAYS_MAX: u64 = 400;

const DAYS_DEFAULT: u64 = 30;

/// `GET /v1/usage?days=30` and `GET /v1/admin/usage?days=30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// How many days back, today included.
    pub days: u64,
}

/// What was used in a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageFigures {
    /// Sandboxes created and forked.
    pub sandboxes: u64,
    /// Sum of the times for which sandboxes existed.
    pub sandbox_seconds: f64,
    /// Runs that were begun.
    pub execs: u64,
    /// Bytes that clients sent to sandboxes: code, input, files.
    pub bytes_in: u64,
    /// Bytes that sandboxes sent to clients: events, output, files.
    pub bytes_out: u64,
    /// Content that sandboxes sent to the network, in bytes.
    #[serde(default)]
    pub network_sent_bytes: u64,
    /// Content that sandboxes received from it.
    #[serde(default)]
    pub network_received_bytes: u64,
}

/// One tenant's usage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageReport {
    pub tenant: String,
    /// Of all days together.
    pub total: UsageFigures,
    /// Days (UTC) on which something was used, oldest first.
    pub days: Vec<UsageDay>,
}

/// What was used on one day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageDay {
    /// As in `2026-11-22`.
    pub day: String,
    #[serde(flatten)]
    pub used: UsageFigures,
}

/// The usage of all tenants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageList {
    pub tenants: Vec<UsageReport>,
}

impl UsageQuery {
    /// Validates a query.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(query: &str) -> Result<Self, InvalidRequest> {
        let days = query_number(query, "days", (1, USAGE_DAYS_MAX))?.unwrap_or(DAYS_DEFAULT);
        Ok(Self { days })
    }
}

impl UsageFigures {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            sandboxes: self.sandboxes + other.sandboxes,
            sandbox_seconds: self.sandbox_seconds + other.sandbox_seconds,
            execs: self.execs + other.execs,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            network_sent_bytes: self.network_sent_bytes + other.network_sent_bytes,
            network_received_bytes: self.network_received_bytes + other.network_received_bytes,
        }
    }
}

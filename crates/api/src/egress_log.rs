//! `GET /v1/sandboxes/{id}/egress/log`: what a sandbox reached, and what it was refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::query_number;
use crate::fields::InvalidRequest;

/// Most entries of one page, which is as many as are kept of one sandbox.
pub const EGRESS_LOG_LIMIT_MAX: u64 = 512;

const LIMIT_DEFAULT: u64 = 100;

/// Numbers that JSON readers everywhere keep whole.
const AFTER_MAX: u64 = (1 << 53) - 1;

/// `GET /v1/sandboxes/{id}/egress/log?after=0&limit=100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressLogQuery {
    /// Only entries whose `seq` is larger.
    pub after: u64,
    pub limit: u64,
}

/// A page of a sandbox's log, oldest first. The newest 512 entries are kept, for as long as the sandbox runs and the
/// host's network process does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EgressLogPage {
    pub entries: Vec<EgressLogEntry>,
    /// `seq` of the oldest entry that is kept: those between the `after` that was asked for and this one are gone.
    pub oldest: u64,
    /// `seq` of the newest entry there ever was; 0 when there was none. A smaller one than seen before means that the log
    /// has begun anew.
    pub newest: u64,
}

/// One connection, one exchange over UDP, or one refused question for a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EgressLogEntry {
    /// Counted from 1.
    pub seq: u64,
    /// When it began, or was refused last, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The name it was for, as far as one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address it was for; absent for a name that was not resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub port: u16,
    pub protocol: EgressProtocol,
    pub verdict: EgressVerdict,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Content that the sandbox has sent and received, in bytes. They grow while it is open.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// How often: more than once only for what was refused.
    pub times: u64,
    pub open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EgressProtocol {
    Tcp,
    Udp,
    /// A question for a name.
    Dns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EgressVerdict {
    Allowed,
    /// By what the sandbox may reach.
    Denied,
    /// It was allowed, and the other side could not be reached, or there were too many at once.
    Failed,
}

impl EgressLogQuery {
    /// Validates a query.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(query: &str) -> Result<Self, InvalidRequest> {
        let after = query_number(query, "after", (0, AFTER_MAX))?.unwrap_or(0);
        let limit = query_number(query, "limit", (1, EGRESS_LOG_LIMIT_MAX))?;
        Ok(Self {
            after,
            limit: limit.unwrap_or(LIMIT_DEFAULT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_be_left_out_and_what_is_wrong_is_named() {
        let parse = EgressLogQuery::parse;
        assert_eq!(parse(""), Ok(EgressLogQuery { after: 0, limit: 100 }));
        assert_eq!(
            parse("after=7&limit=1"),
            Ok(EgressLogQuery { after: 7, limit: 1 })
        );
        let refused = parse("limit=513").unwrap_err().to_string();
        assert_eq!(
            refused,
            r#"limit: expected a whole number between 1 and 512, got "513""#
        );
        assert!(parse("after=-1").is_err());
    }
}

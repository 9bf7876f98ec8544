//! Ports of sandboxes: what listens there, and URLs that lead to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{Fields, InvalidRequest, Whole};

/// How long a URL is good for unless it is said, in seconds.
const SHARE_SECONDS_DEFAULT: u32 = 3600;
/// The longest: a week.
pub const SHARE_SECONDS_MAX: u32 = 7 * 24 * 3600;

/// Answer to `GET /v1/sandboxes/{id}/ports`, by port and address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortList {
    pub ports: Vec<PortInfo>,
}

/// A TCP socket that waits for connections in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortInfo {
    pub port: u16,
    /// What it listens on: `0.0.0.0` and `::` are all addresses.
    pub address: String,
    /// A process that has it, where the guest could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<PortProcess>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortProcess {
    pub pid: u32,
    /// As the process calls itself.
    pub command: String,
}

/// For how long a URL is to be good. An empty body will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShareRequest {
    /// 3600 when absent.
    #[schemars(with = "Option<u32>", range(min = 1, max = SHARE_SECONDS_MAX))]
    pub expires_in_seconds: u32,
}

/// A URL that leads to one port of a sandbox without a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SharedPort {
    /// For programs, and for browsers, which it sends on to `host_url` where there is one.
    pub url: String,
    /// The same on a host name of its own, which pages need to work as they would on a server of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_url: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

impl ShareRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let range = Whole {
            unit: "seconds",
            min: 1,
            max: SHARE_SECONDS_MAX.into(),
        };
        let seconds = fields.whole("expires_in_seconds", &range)?;
        // The range has been checked already, so nothing is lost.
        let seconds = seconds.map(|seconds| u32::try_from(seconds).unwrap_or(SHARE_SECONDS_MAX));
        Ok(Self {
            expires_in_seconds: seconds.unwrap_or(SHARE_SECONDS_DEFAULT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_for_an_hour_unless_it_is_said_and_for_a_week_at_most() {
        let parse = |body: &str| ShareRequest::parse(body.as_bytes());
        assert_eq!(parse("").unwrap().expires_in_seconds, 3600);
        assert_eq!(
            parse(r#"{"expires_in_seconds":604800}"#)
                .unwrap()
                .expires_in_seconds,
            SHARE_SECONDS_MAX
        );
        for wrong in ["0", "604801", "-1", "1.5", "\"2\""] {
            let refusal = parse(&format!("{{\"expires_in_seconds\":{wrong}}}")).unwrap_err();
            let text = refusal.to_string();
            assert!(
                text.starts_with("expires_in_seconds: expected a whole number of seconds"),
                "{text}"
            );
        }
    }
}

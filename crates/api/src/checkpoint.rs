//! Checkpoints: states of a sandbox that it can be rolled back to.

use pod_types::CheckpointId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{Fields, InvalidRequest};
use crate::openapi::CheckpointIdText;

/// Of a checkpoint. One that begins like an id would be taken for one.
pub(crate) const CHECKPOINT_NAME_PATTERN: &str = "^[A-Za-z0-9._-]{1,64}$";
const NAME_MAX: usize = 64;
const EXPECTED_NAME: &str = "1 to 64 letters, digits, dots, dashes and underscores";

/// Longest text that names a checkpoint: its name or its id.
const KEY_MAX: usize = 64;

/// `POST /v1/sandboxes/{id}/checkpoints`, the request. An empty body will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckpointRequest {
    /// Its name, which no other checkpoint of the sandbox has; one is made up when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = CHECKPOINT_NAME_PATTERN))]
    pub name: Option<String>,
}

/// `POST /v1/sandboxes/{id}/rollback`, the request. An empty body will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RollbackRequest {
    /// Id or name of a checkpoint; the latest when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = KEY_MAX))]
    pub checkpoint: Option<String>,
}

/// A state of a sandbox that it can be rolled back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    #[schemars(with = "CheckpointIdText")]
    pub id: CheckpointId,
    pub name: String,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    pub state: CheckpointState,
    /// Why it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointState {
    Ready,
    /// What kept it is gone. It can only be deleted.
    Lost,
}

/// Answer to `GET /v1/sandboxes/{id}/checkpoints`, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointList {
    pub checkpoints: Vec<Checkpoint>,
}

/// Answer to `POST /v1/sandboxes/{id}/rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolledBack {
    /// What the sandbox is again. It can be rolled back to it any number of times.
    pub checkpoint: Checkpoint,
    /// Execs that were in progress and have ended.
    pub ended_execs: u32,
}

impl CheckpointRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let name = fields.text("name", EXPECTED_NAME)?;
        match &name {
            Some(name) if !is_name(name) => Err(InvalidRequest::value("name", EXPECTED_NAME, name)),
            _ => Ok(Self { name }),
        }
    }
}

impl RollbackRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        const EXPECTED: &str = "the id or the name of a checkpoint";
        let mut fields = Fields::parse(body)?;
        let checkpoint = fields.text("checkpoint", EXPECTED)?;
        match &checkpoint {
            Some(key) if key.chars().count() > KEY_MAX => {
                Err(InvalidRequest::value("checkpoint", EXPECTED, key))
            }
            _ => Ok(Self { checkpoint }),
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain_and_may_be_left_out() {
        let parse = |body: &str| CheckpointRequest::parse(body.as_bytes());
        assert_eq!(parse(""), Ok(CheckpointRequest::default()));
        assert_eq!(
            parse(r#"{"name":"before-rm_2.0"}"#).unwrap().name.as_deref(),
            Some("before-rm_2.0")
        );
        for wrong in [
            r#"{"name":""}"#,
            r#"{"name":"a/b"}"#,
            r#"{"name":"ä"}"#,
            r#"{"name":7}"#,
        ] {
            let refused = parse(wrong).unwrap_err().to_string();
            assert!(refused.starts_with("name: expected 1 to 64 letters"), "{refused}");
        }
        let long = format!(r#"{{"checkpoint":"{}"}}"#, "x".repeat(65));
        assert!(RollbackRequest::parse(long.as_bytes()).is_err());
        assert_eq!(RollbackRequest::parse(b"{}"), Ok(RollbackRequest::default()));
    }
}

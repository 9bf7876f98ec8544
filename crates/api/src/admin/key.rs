//! API keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NAME_LEN_MAX, TENANT_NAME, TENANT_NAME_PATTERN, tenant_name};
use crate::fields::{Fields, InvalidRequest, Whole};

/// Longest time for which a rotated key stays valid: a quarter of a year.
pub const GRACE_SECONDS_MAX: u64 = 90 * 24 * 3600;

/// The same as a pattern.
pub(crate) const KEY_NAME_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$";

const KEY_NAME: &str = "a name of 1 to 64 printable characters";

/// A key to make. `{}` and an empty body are legal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NewKeyRequest {
    /// Whose it is; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = TENANT_NAME_PATTERN))]
    pub tenant: Option<String>,
    /// For people; `key` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = KEY_NAME_PATTERN))]
    pub name: Option<String>,
}

/// How a key is replaced. `{}` and an empty body are legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RotateRequest {
    /// For how many seconds the old key stays valid; 0 when absent.
    #[schemars(with = "Option<u64>", range(min = 0, max = GRACE_SECONDS_MAX))]
    pub grace_seconds: u64,
}

/// One key; the key itself is not known any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyInfo {
    /// Names it on the operator's routes; no secret.
    pub id: String,
    pub tenant: String,
    pub name: String,
    pub state: KeyState,
    /// Its last characters; empty for one of the environment.
    #[serde(default)]
    pub tail: String,
    /// Whether it is in the daemon's `PODFLARE_API_KEYS`, where alone it can be changed.
    #[serde(default)]
    pub environment: bool,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Milliseconds since the Unix epoch, to a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_ms: Option<u64>,
    /// It was rotated, and is valid until then, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    Valid,
    /// Rotated; valid for a while.
    Expiring,
    Expired,
    Revoked,
}

/// A new key, shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewKey {
    /// What goes into the `Authorization` header.
    pub key: String,
    #[serde(flatten)]
    pub info: KeyInfo,
}

/// All keys, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyList {
    pub keys: Vec<KeyInfo>,
}

impl NewKeyRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let tenant = fields.text("tenant", TENANT_NAME)?;
        let name = fields.text("name", KEY_NAME)?;
        if let Some(wrong) = name.as_deref().filter(|name| {
            name.is_empty() || name.chars().count() > NAME_LEN_MAX || name.chars().any(char::is_control)
        }) {
            return Err(InvalidRequest::value("name", KEY_NAME, wrong));
        }
        Ok(Self {
            tenant: tenant.map(|name| tenant_name("tenant", name)).transpose()?,
            name,
        })
    }
}

impl RotateRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let range = Whole {
            unit: "seconds",
            min: 0,
            max: GRACE_SECONDS_MAX,
        };
        let grace_seconds = fields.whole("grace_seconds", &range)?.unwrap_or(0);
        Ok(Self { grace_seconds })
    }
}

//! API keys.

use serde::{Deserialize, Serialize};

use super::{NAME_LEN_MAX, TENANT_NAME, tenant_name};
use crate::fields::{Fields, InvalidRequest, Whole};

/// Longest time for which a rotated key stays valid: a quarter of a year.
pub const GRACE_SECONDS_MAX: u64 = 90 * 24 * 3600;

const KEY_NAME: &str = "a name of 1 to 64 printable characters";

/// `POST /v1/admin/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewKeyRequest {
    /// `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For people; `key` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /v1/admin/keys/{id}/rotate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RotateRequest {
    /// How long the old key stays valid; 0 when absent.
    pub grace_seconds: u64,
}

/// One key; the key itself is not known any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
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
    /// Milliseconds since the Unix epoch, like the others.
    pub created_at_ms: u64,
    /// To a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_ms: Option<u64>,
    /// It was rotated, and is valid until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    Valid,
    /// Rotated; valid for a while.
    Expiring,
    Expired,
    Revoked,
}

/// A new key, shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    pub key: String,
    #[serde(flatten)]
    pub info: KeyInfo,
}

/// `GET /v1/admin/keys`, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

//! Spaces: sandboxes that were frozen to disk.

use ::egress::Policy;
use pod_types::{SandboxId, SpaceId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::egress::{self, EgressValue};
use crate::fields::{Fields, InvalidRequest, Whole};
use crate::openapi::{SandboxIdText, SpaceIdText};

/// As for a creation.
const SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;

/// How to freeze. `{}` and an empty body are legal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FreezeRequest {
    /// Keep all memory that is not zeros, and not only what differs from the template's: larger and slower, and needs
    /// nothing of the template but its disk image.
    #[schemars(with = "Option<bool>")]
    pub whole: bool,
    /// Freeze it although it has checkpoints, which end with it.
    #[schemars(with = "Option<bool>")]
    pub drop_checkpoints: bool,
}

/// How to go on with what was frozen. Every field is optional; `{}` and an empty body are legal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResumeRequest {
    /// Longest life from now on, in seconds, capped by the tenant's tier; what the sandbox had before when absent or 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = SECONDS_MAX))]
    pub timeout_seconds: Option<u64>,
    /// Seconds without an exec after which the sandbox ends, or is frozen again; what it had before when absent or 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = SECONDS_MAX))]
    pub idle_timeout_seconds: Option<u64>,
    /// Freeze again instead of destroy when idle, into a new space.
    #[schemars(with = "Option<bool>")]
    pub persistent: bool,
    /// What the sandbox may reach; as before when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<EgressValue>")]
    pub egress: Option<Policy>,
    /// Keep the space: it can be resumed again, and each time it begins where it was frozen.
    #[schemars(with = "Option<bool>")]
    pub keep: bool,
}

/// Media type of a file that a space is exported to.
pub const SPACE_MEDIA_TYPE: &str = "application/vnd.podflare.space";

/// A sandbox on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpaceInfo {
    #[schemars(with = "SpaceIdText")]
    pub id: SpaceId,
    /// What it was known as before; of one that was imported, an id of this host's that nothing had before.
    #[schemars(with = "SandboxIdText")]
    pub sandbox_id: SandboxId,
    pub template: String,
    /// Guest memory, in MiB.
    pub ram_mib: u32,
    /// Root disk, in GiB, rounded up.
    pub rootfs_gb: u32,
    pub vcpus: u8,
    /// What the sandbox could reach, and can again.
    #[schemars(with = "EgressValue")]
    pub egress: Policy,
    /// When it was frozen or imported, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    pub cause: FreezeCause,
    /// What it takes on the host's disk: memory that differs from its template's, disk blocks that do, and the rest.
    pub bytes: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// Whether a run was in progress; it goes on when the space is resumed.
    pub running: bool,
    /// It is being resumed or exported.
    pub busy: bool,
}

/// Why a sandbox was frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FreezeCause {
    /// Its client asked for it.
    Request,
    /// It was persistent, and idle for as long as it may be.
    Idle,
    /// It was persistent, and its host stopped.
    Shutdown,
    /// It was persistent, and its host ran out of memory.
    Memory,
    /// It was not: the space came from a file.
    Import,
}

/// Answer to `GET /v1/spaces`, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpaceList {
    pub spaces: Vec<SpaceInfo>,
}

impl FreezeRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        Ok(Self {
            whole: fields.flag("whole")?.unwrap_or(false),
            drop_checkpoints: fields.flag("drop_checkpoints")?.unwrap_or(false),
        })
    }
}

impl ResumeRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let seconds = Whole {
            unit: "seconds",
            min: 0,
            max: SECONDS_MAX,
        };
        Ok(Self {
            timeout_seconds: fields.whole("timeout_seconds", &seconds)?.filter(|s| *s > 0),
            idle_timeout_seconds: fields.whole("idle_timeout_seconds", &seconds)?.filter(|s| *s > 0),
            persistent: fields.flag("persistent")?.unwrap_or(false),
            egress: egress::take(&mut fields)?,
            keep: fields.flag("keep")?.unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_may_be_left_out_and_what_is_wrong_is_named() {
        for body in ["", "{}", r#"{"timeout_seconds":0,"template":"ignored"}"#] {
            assert_eq!(
                ResumeRequest::parse(body.as_bytes()),
                Ok(ResumeRequest::default())
            );
        }
        let all =
            r#"{"timeout_seconds":7,"idle_timeout_seconds":8,"persistent":true,"egress":false,"keep":true}"#;
        let parsed = ResumeRequest::parse(all.as_bytes()).unwrap();
        assert!(parsed.persistent && parsed.keep && parsed.egress == Some(Policy::Closed));
        let wrong = ResumeRequest::parse(br#"{"keep":"yes"}"#).unwrap_err();
        assert_eq!(wrong.to_string(), r#"keep: expected true or false, got "yes""#);
    }
}

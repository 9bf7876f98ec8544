//! Schemas of types that know nothing of schemas, because they belong to crates that do without.

use std::borrow::Cow;

use pod_types::{Limit, Tier};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::secret::SECRET_NAME_PATTERN;

/// Id of a sandbox.
#[derive(Debug, JsonSchema)]
#[schemars(inline, extend("pattern" = "^sbx_[0-9a-f]{32}$"))]
#[expect(dead_code, reason = "it stands for another type in schemas only")]
pub(crate) struct SandboxIdText(Cow<'static, str>);

/// Id of a space.
#[derive(Debug, JsonSchema)]
#[schemars(inline, extend("pattern" = "^spc_[0-9a-f]{32}$"))]
#[expect(dead_code, reason = "it stands for another type in schemas only")]
pub(crate) struct SpaceIdText(Cow<'static, str>);

/// Id of a terminal.
#[derive(Debug, JsonSchema)]
#[schemars(inline, extend("pattern" = "^pty_[0-9a-f]{32}$"))]
#[expect(dead_code, reason = "it stands for another type in schemas only")]
pub(crate) struct PtyIdText(Cow<'static, str>);

/// Id of a checkpoint.
#[derive(Debug, JsonSchema)]
#[schemars(inline, extend("pattern" = "^ckp_[0-9a-f]{32}$"))]
#[expect(dead_code, reason = "it stands for another type in schemas only")]
pub(crate) struct CheckpointIdText(Cow<'static, str>);

/// Name of a secret.
#[derive(Debug, JsonSchema)]
#[schemars(inline, extend("pattern" = SECRET_NAME_PATTERN))]
#[expect(dead_code, reason = "it stands for another type in schemas only")]
pub(crate) struct SecretName(Cow<'static, str>);

/// A tier.
#[derive(Debug)]
pub(crate) struct TierText;

/// Limits that differ from a tier's.
#[derive(Debug)]
pub(crate) struct OverridesObject;

/// All limits that hold.
#[derive(Debug)]
pub(crate) struct LimitsObject;

impl JsonSchema for TierText {
    fn schema_name() -> Cow<'static, str> {
        "Tier".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Tier::NAMES.split(", ").collect();
        schema(json!({
            "type": "string",
            "description": "A named set of limits. `unlimited` has none but what the host has.",
            "enum": names,
        }))
    }
}

impl JsonSchema for OverridesObject {
    fn schema_name() -> Cow<'static, str> {
        "LimitOverrides".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(json!({
            "type": "object",
            "description": "Limits of one tenant that differ from its tier's; `null` lifts one.",
            "properties": each_limit(),
            "additionalProperties": false,
        }))
    }
}

impl JsonSchema for LimitsObject {
    fn schema_name() -> Cow<'static, str> {
        "Limits".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut properties = each_limit();
        let persistent = "Whether sandboxes may be frozen instead of destroyed.";
        properties.insert(
            "persistent".to_owned(),
            json!({ "type": "boolean", "description": persistent }),
        );
        let required: Vec<&String> = properties.keys().collect();
        schema(json!({
            "type": "object",
            "description": "What one tenant may have; `null` is no limit.",
            "required": required,
            "properties": properties,
        }))
    }
}

fn each_limit() -> Map<String, Value> {
    let one = |limit: Limit| {
        let (min, max) = limit.range();
        let schema = json!({
            "type": ["integer", "null"],
            "description": about(limit),
            "minimum": min,
            "maximum": max,
        });
        (limit.name().to_owned(), schema)
    };
    Limit::ALL.into_iter().map(one).collect()
}

fn about(limit: Limit) -> &'static str {
    match limit {
        Limit::Sandboxes => "Sandboxes at once, those that failed and were not deleted included.",
        Limit::CreatesPerMinute => "Sandboxes created or forked each minute, in the long run.",
        Limit::CreateBurst => "Sandboxes that may be created at once before that rate counts.",
        Limit::Runs => "Runs in progress or queued at once, over all sandboxes.",
        Limit::TimeoutSeconds => "Longest life of a sandbox, in seconds.",
        Limit::IdleTimeoutSeconds => "Longest time of a sandbox without a run, in seconds.",
        Limit::RamMib => "Guest memory of one sandbox, in MiB.",
        Limit::RootfsGb => "Root disk of one sandbox, in GiB.",
        Limit::Spaces => "Frozen sandboxes.",
        Limit::SpacesMib => "Room that all frozen sandboxes take on the host's disk, in MiB.",
    }
}

/// Those above are objects, so nothing is lost.
fn schema(value: Value) -> Schema {
    Schema::try_from(value).unwrap_or_default()
}

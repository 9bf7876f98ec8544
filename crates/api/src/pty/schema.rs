//! How the request of a new terminal looks: its program is one of two fields there.

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::SIDE_MAX;

/// A program on a new terminal: exactly one of `shellCmd` and `argv`. Arguments, environment and directory have at most
/// 200 KiB together.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "PtyCreateRequest", extend("oneOf" = one_program()))]
#[expect(dead_code, reason = "it stands for another type in schemas only")]
pub(crate) struct PtyCreateObject {
    /// Run by `bash -lc`.
    #[schemars(rename = "shellCmd")]
    shell: Option<String>,
    /// A program and its arguments, executed as they are.
    #[schemars(extend("minItems" = 1, "prefixItems" = [{ "type": "string", "minLength": 1 }]))]
    argv: Option<Vec<String>>,
    /// Width of the window; 80 when absent.
    #[schemars(range(min = 1, max = SIDE_MAX))]
    cols: Option<u16>,
    /// Height of the window; 24 when absent.
    #[schemars(range(min = 1, max = SIDE_MAX))]
    rows: Option<u16>,
    /// Pairs of name and value, added to the sandbox's own environment.
    env: Option<Vec<(String, String)>>,
    /// Where the program starts; `/root` when absent.
    cwd: Option<String>,
}

/// `null` counts as absent.
fn one_program() -> Value {
    let only = |this: &str, kind: &str, other: &str, description: &str| {
        json!({
            "type": "object",
            "description": description,
            "required": [this],
            "properties": { this: { "type": kind }, other: { "type": "null" } },
        })
    };
    json!([
        only("shellCmd", "string", "argv", "With `shellCmd`."),
        only("argv", "array", "shellCmd", "With `argv`."),
    ])
}

//! `POST /v1/sandboxes/{id}/fork`.

use pod_types::SandboxId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{Fields, InvalidRequest, Whole};
use crate::openapi::SandboxIdText;

/// Most children of one request.
pub const FORK_MAX: u8 = 32;

/// How many copies of a running sandbox to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ForkRequest {
    /// How many; 1 when absent.
    #[schemars(with = "Option<u8>", range(min = 1, max = FORK_MAX))]
    pub n: u8,
}

/// Answer to it: every child runs and knows who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forked {
    #[schemars(with = "Vec<SandboxIdText>")]
    pub children: Vec<SandboxId>,
}

impl ForkRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let children = Whole {
            unit: "children",
            min: 1,
            max: FORK_MAX.into(),
        };
        let n = fields.whole("n", &children)?.unwrap_or(1);
        // The range has been checked already, so nothing is lost.
        Ok(Self {
            n: u8::try_from(n).unwrap_or(FORK_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_child_unless_a_number_from_1_to_32_is_given() {
        let parse = |body: &str| ForkRequest::parse(body.as_bytes());
        assert_eq!(parse("").unwrap().n, 1);
        assert_eq!(parse(r#"{"n":32}"#).unwrap().n, 32);
        for wrong in ["0", "33", "-1", "1.5", "\"2\"", "true"] {
            let refusal = parse(&format!("{{\"n\":{wrong}}}")).unwrap_err().to_string();
            assert!(
                refusal.starts_with("n: expected a whole number of children between 1 and 32, got "),
                "{refusal}"
            );
        }
    }
}

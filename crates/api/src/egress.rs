//! What a sandbox may reach, as clients say it.

use std::borrow::Cow;

use egress::{InvalidPolicy, Policy, RULES_MAX};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::json;

use crate::fields::{Fields, InvalidRequest};

/// Longest rule, in characters: no name that is longer is one, with `*.` before it and a port after it.
const RULE_CHARS_MAX: usize = 300;

/// What is expected, for errors.
const EXPECTED: &str = r#"true, false or {"allow": […], "deny": […]}"#;

/// Stands for [`Policy`] in schemas.
#[derive(Debug)]
pub(crate) struct EgressValue;

/// Takes the field of a request.
pub(crate) fn take(fields: &mut Fields) -> Result<Option<Policy>, InvalidRequest> {
    let Some(value) = fields.take("egress") else {
        return Ok(None);
    };
    match Policy::from_json(&value) {
        Ok(policy) => Ok(Some(policy)),
        Err(InvalidPolicy::Shape) => Err(InvalidRequest::json("egress", EXPECTED, &value)),
        Err(problem) => Err(InvalidRequest::Meaning {
            field: "egress",
            problem: problem.to_string(),
        }),
    }
}

impl JsonSchema for EgressValue {
    fn schema_name() -> Cow<'static, str> {
        "Egress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let list = |description: &str| {
            json!({
                "type": "array",
                "description": description,
                "maxItems": RULES_MAX,
                "items": { "type": "string", "minLength": 1, "maxLength": RULE_CHARS_MAX },
            })
        };
        let lists = json!({
            "type": "object",
            "properties": {
                "allow": list(
                    "What may be reached, and nothing else: names (`api.example.com`), all names below one \
                     (`*.example.org`), networks (`10.1.0.0/16`) and addresses (`192.0.2.7`, `[2001:db8::1]`), each with a \
                     port (`:443`) or for all of them.",
                ),
                "deny": list("What of it may not be reached all the same, written like that."),
            },
            "required": ["allow"],
            "additionalProperties": false,
        });
        let value = json!({
            "description": "What a sandbox may reach: everything public (`true`), nothing (`false`), or what rules allow.",
            "anyOf": [{ "type": "boolean" }, lists],
        });
        // It is an object, so nothing is lost.
        Schema::try_from(value).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> Result<Option<Policy>, String> {
        let mut fields = Fields::parse(body.as_bytes()).unwrap();
        take(&mut fields).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_all_nothing_or_rules_and_may_be_left_out() {
        assert_eq!(said("{}"), Ok(None));
        assert_eq!(said(r#"{"egress":null}"#), Ok(None));
        assert_eq!(said(r#"{"egress":true}"#), Ok(Some(Policy::Open)));
        assert_eq!(said(r#"{"egress":false}"#), Ok(Some(Policy::Closed)));
        let listed = said(r#"{"egress":{"allow":["*.example.org:443"]}}"#);
        assert!(matches!(listed, Ok(Some(Policy::List(_)))), "{listed:?}");
    }

    #[test]
    fn what_is_wrong_is_told_with_the_rule() {
        let refusal = |body| said(body).unwrap_err();
        assert_eq!(
            refusal(r#"{"egress":"no"}"#),
            r#"egress: expected true, false or {"allow": […], "deny": […]}, got "no""#
        );
        let rule = refusal(r#"{"egress":{"allow":["api.example.com","https://example.com/"]}}"#);
        assert!(
            rule.starts_with(r#"egress: `allow`: the rule "https://example.com/" has a scheme"#),
            "{rule}"
        );
        let stranger = refusal(r#"{"egress":{"allow":[],"denny":["a"]}}"#);
        assert!(stranger.contains("denny"), "{stranger}");
    }
}

//! A sandbox's policy, as the API writes it: `true`, `false`, or `{"allow": […], "deny": […]}`.

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{InvalidRule, Rule};

/// Most rules of each kind in one policy.
pub const RULES_MAX: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Whatever is public.
    #[default]
    Open,
    /// No frame leaves.
    Closed,
    List(Box<List>),
}

/// What is allowed, and what of that is not. A rule that denies always wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    pub allow: Vec<Rule>,
    pub deny: Vec<Rule>,
}

/// Why a JSON value is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidPolicy {
    #[error("expected true, false, or an object with the list `allow` and perhaps the list `deny`")]
    Shape,
    #[error("has no list `allow`; `deny` only takes away from what `allow` gives")]
    NoAllow,
    #[error("has an unknown field {0:?}; known are `allow` and `deny`")]
    Unknown(String),
    #[error("`{0}`: expected a list of texts")]
    NotTexts(&'static str),
    #[error("`{0}`: has more than {RULES_MAX} rules")]
    TooMany(&'static str),
    /// The rule's problem is part of this message and not its source: whoever sent it gets one sentence.
    #[error("`{list}`: {problem}")]
    Rule {
        list: &'static str,
        problem: InvalidRule,
    },
}

impl Policy {
    /// # Errors
    /// What is wrong with the value, in words for whoever sent it.
    pub fn from_json(value: &Value) -> Result<Self, InvalidPolicy> {
        match value {
            Value::Bool(true) => Ok(Self::Open),
            Value::Bool(false) => Ok(Self::Closed),
            Value::Object(fields) => List::from_fields(fields).map(|list| Self::List(Box::new(list))),
            _ => Err(InvalidPolicy::Shape),
        }
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl List {
    fn from_fields(fields: &Map<String, Value>) -> Result<Self, InvalidPolicy> {
        let unknown = fields
            .keys()
            .find(|key| !matches!(key.as_str(), "allow" | "deny"));
        if let Some(key) = unknown {
            return Err(InvalidPolicy::Unknown(key.chars().take(40).collect()));
        }
        let of = |list: &'static str| match fields.get(list) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => rules_of(list, value).map(Some),
        };
        Ok(Self {
            allow: of("allow")?.ok_or(InvalidPolicy::NoAllow)?,
            deny: of("deny")?.unwrap_or_default(),
        })
    }
}

fn rules_of(list: &'static str, value: &Value) -> Result<Vec<Rule>, InvalidPolicy> {
    let values = value.as_array().ok_or(InvalidPolicy::NotTexts(list))?;
    if values.len() > RULES_MAX {
        return Err(InvalidPolicy::TooMany(list));
    }
    let rule_of = |value: &Value| {
        let text = value.as_str().ok_or(InvalidPolicy::NotTexts(list))?;
        text.parse()
            .map_err(|problem| InvalidPolicy::Rule { list, problem })
    };
    values.iter().map(rule_of).collect()
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Open => serializer.serialize_bool(true),
            Self::Closed => serializer.serialize_bool(false),
            Self::List(list) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("allow", &list.allow)?;
                map.serialize_entry("deny", &list.deny)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_json(&value).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_is_a_flag_or_lists_and_is_written_as_it_was_read() {
        for (given, written) in [
            (json!(true), json!(true)),
            (json!(false), json!(false)),
            (
                json!({"allow": ["A.example", "10.0.0.0/8"]}),
                json!({"allow": ["a.example", "10.0.0.0/8"], "deny": []}),
            ),
            (
                json!({"allow": [], "deny": ["*.b.example:443"]}),
                json!({"allow": [], "deny": ["*.b.example:443"]}),
            ),
        ] {
            let policy = Policy::from_json(&given).unwrap();
            let again = serde_json::to_value(&policy).unwrap();
            assert_eq!(again, written);
            assert_eq!(serde_json::from_value::<Policy>(again).unwrap(), policy);
        }
    }

    #[test]
    fn an_error_says_what_to_change() {
        for (given, said) in [
            (json!("yes"), "expected true, false"),
            (json!(null), "expected true, false"),
            (json!({}), "no list `allow`"),
            (json!({"deny": ["a.example"]}), "no list `allow`"),
            (json!({"allow": [], "alow": []}), "unknown field \"alow\""),
            (json!({"allow": "a.example"}), "`allow`: expected a list"),
            (json!({"allow": [1]}), "`allow`: expected a list"),
            (
                json!({"allow": ["a.example"], "deny": ["http://b"]}),
                "`deny`: the rule \"http://b\"",
            ),
            (json!({"allow": vec!["a.example"; 257]}), "more than 256"),
        ] {
            let error = Policy::from_json(&given).unwrap_err().to_string();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}

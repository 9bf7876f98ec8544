//! As much of JSON Schema as request types use. A keyword it does not know is a failure, not a pass.

use serde_json::{Value, json};

use crate::admin::{KEY_NAME_PATTERN, TENANT_NAME_PATTERN};
use crate::checkpoint::CHECKPOINT_NAME_PATTERN;
use crate::pty::BASE64_PATTERN;
use crate::secret::{PLACEHOLDER_PATTERN, SECRET_VALUE_PATTERN};

/// Texts about which patterns differ.
const PATTERN_EDGES: [&str; 16] = [
    "@@TOKEN@@",
    "a b c d e",
    "acme-2.x_y",
    "-a",
    "a/b",
    "A",
    "a\n",
    "\u{85}",
    "ä b",
    "QQ==",
    "QR==",
    "QQ",
    "QUI=",
    "QUJD",
    "QQ=Q",
    "====",
];

/// Keywords that allow and forbid nothing.
const SILENT: [&str; 4] = ["description", "default", "title", "contentEncoding"];

/// Whether a schema of the document allows a value.
pub(super) fn accepts(document: &Value, schema: &Value, value: &Value) -> bool {
    let rules = schema.as_object().unwrap();
    rules.iter().all(|(keyword, rule)| match keyword.as_str() {
        "$ref" => accepts(document, target(document, rule), value),
        "type" => match rule {
            Value::Array(names) => names.iter().any(|name| is(name, value)),
            name => is(name, value),
        },
        "pattern" => value
            .as_str()
            .is_none_or(|text| matches_pattern(rule.as_str().unwrap(), text)),
        "minLength" => length(value).is_none_or(|length| length >= rule.as_u64().unwrap()),
        "maxLength" => length(value).is_none_or(|length| length <= rule.as_u64().unwrap()),
        "minItems" => items(value).is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
        "maxItems" => items(value).is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
        "prefixItems" => items(value).is_none_or(|items| {
            let mut pairs = items.iter().zip(rule.as_array().unwrap());
            pairs.all(|(item, schema)| accepts(document, schema, item))
        }),
        "items" => items(value).is_none_or(|items| {
            let before = rules
                .get("prefixItems")
                .map_or(0, |first| first.as_array().unwrap().len());
            items
                .iter()
                .skip(before)
                .all(|item| accepts(document, rule, item))
        }),
        "additionalProperties" => value.as_object().is_none_or(|fields| {
            assert_eq!(
                *rule,
                json!(false),
                "teach the judge more of additionalProperties"
            );
            fields.keys().all(|name| rules["properties"].get(name).is_some())
        }),
        "minimum" => value
            .as_f64()
            .is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value
            .as_f64()
            .is_none_or(|number| number <= rule.as_f64().unwrap()),
        "enum" => rule.as_array().unwrap().contains(value),
        "const" => rule == value,
        "anyOf" | "oneOf" => {
            let mut choices = rule.as_array().unwrap().iter();
            choices.any(|choice| accepts(document, choice, value))
        }
        "required" => value.as_object().is_none_or(|fields| {
            let mut names = rule.as_array().unwrap().iter();
            names.all(|name| fields.contains_key(name.as_str().unwrap()))
        }),
        "properties" => rule.as_object().unwrap().iter().all(|(name, schema)| {
            let field = value.get(name);
            field.is_none_or(|field| accepts(document, schema, field))
        }),
        silent if SILENT.contains(&silent) => true,
        unknown => panic!("teach the judge the keyword {unknown}"),
    })
}

/// Values at which a schema's verdict changes.
pub(super) fn edges(schema: &Value, document: &Value, found: &mut Vec<Value>) {
    let Some(rules) = schema.as_object() else {
        return;
    };
    for (keyword, rule) in rules {
        match keyword.as_str() {
            "$ref" => edges(target(document, rule), document, found),
            "minimum" | "maximum" => {
                let bound = rule.as_i64().unwrap();
                found.extend([bound - 1, bound, bound + 1].map(|number| json!(number)));
            }
            "pattern" => found.extend(PATTERN_EDGES.map(|text| json!(text))),
            "maxLength" | "minLength" | "maxItems" | "minItems" | "prefixItems" | "items" => {
                let lists = [
                    json!([""]),
                    json!(["x"]),
                    json!(["x", ""]),
                    json!(["x", 1]),
                    json!([["a", "b"]]),
                ];
                found.extend(lists);
                found.extend([json!([["a"]]), json!([["a", 1]]), json!([["a", "b", "c"]])]);
            }
            "properties" => {
                found.push(json!({ "unknown": 1 }));
                for (name, schema) in rule.as_object().unwrap() {
                    let mut inner = vec![json!(null), json!("x"), json!(1.5)];
                    edges(schema, document, &mut inner);
                    found.extend(inner.into_iter().map(|value| json!({ name: value })));
                }
            }
            "enum" => found.extend(rule.as_array().unwrap().clone()),
            "const" => found.push(rule.clone()),
            "anyOf" | "oneOf" => {
                for choice in rule.as_array().unwrap() {
                    edges(choice, document, found);
                }
            }
            _ => {}
        }
    }
}

/// The patterns of requests, each understood by hand.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let small = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    match pattern {
        TENANT_NAME_PATTERN => {
            text.len() <= 64
                && text.starts_with(small)
                && text
                    .chars()
                    .all(|character| small(character) || "._-".contains(character))
        }
        KEY_NAME_PATTERN => (1..=64).contains(&text.chars().count()) && !text.contains(char::is_control),
        CHECKPOINT_NAME_PATTERN => {
            let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
            (1..=64).contains(&text.len()) && text.chars().all(plain)
        }
        SECRET_VALUE_PATTERN => {
            (1..=8192).contains(&text.len()) && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
        }
        PLACEHOLDER_PATTERN => {
            (8..=256).contains(&text.len()) && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
        }
        BASE64_PATTERN => {
            let bare = text.trim_end_matches('=');
            let letter = |last: &str| bare.chars().next_back().is_some_and(|end| last.contains(end));
            let rest_is_zero = match text.len() - bare.len() {
                0 => bare.len().is_multiple_of(4),
                1 => bare.len() % 4 == 3 && letter("AEIMQUYcgkosw048"),
                2 => bare.len() % 4 == 2 && letter("AQgw"),
                _ => false,
            };
            rest_is_zero
                && bare
                    .chars()
                    .all(|digit| digit.is_ascii_alphanumeric() || "+/".contains(digit))
        }
        unknown => panic!("teach the judge the pattern {unknown}"),
    }
}

fn length(value: &Value) -> Option<u64> {
    Some(value.as_str()?.chars().count() as u64)
}

fn items(value: &Value) -> Option<&Vec<Value>> {
    value.as_array()
}

fn target<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    let pointer = reference.as_str().unwrap().trim_start_matches('#');
    document.pointer(pointer).unwrap()
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        unknown => panic!("teach the judge the type {unknown}"),
    }
}

//! As much of JSON Schema as request types use. A keyword it does not know is a failure, not a pass.

use serde_json::{Value, json};

/// Keywords that allow and forbid nothing.
const SILENT: [&str; 3] = ["description", "default", "title"];

/// Whether a schema of the document allows a value.
pub(super) fn accepts(document: &Value, schema: &Value, value: &Value) -> bool {
    let rules = schema.as_object().unwrap();
    rules.iter().all(|(keyword, rule)| match keyword.as_str() {
        "$ref" => accepts(document, target(document, rule), value),
        "type" => match rule {
            Value::Array(names) => names.iter().any(|name| is(name, value)),
            name => is(name, value),
        },
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
        "required" => {
            let mut names = rule.as_array().unwrap().iter();
            names.all(|name| value.get(name.as_str().unwrap()).is_some())
        }
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

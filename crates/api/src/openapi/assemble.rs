//! From the table of operations to the document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::content::Content;
use super::operation::{Answer, Guard, Operation};
use super::parameters;
use super::routes::{TAGS, operations};
use super::schemas::Schemas;
use crate::error::{ErrorBody, ErrorCode};

const DESCRIPTION: &str = "\
Every sandbox is a microVM with a live Python interpreter. A run's output is streamed as NDJSON: one JSON object a \
line, sent as it comes to be. **Empty lines are heartbeats**: they come at least every ten seconds, so that a client \
may take a longer silence for a lost connection.\n\n\
Unknown fields of a request are ignored, `null` counts as absent, and a value of a wrong type is refused with 400 and \
the name of the field. Every error has the same body; its `code` is stable, its `error` is for people. \
Paths may be prefixed with `/r/{region}`.";

/// The OpenAPI 3.1 document of this version.
///
/// # Panics
/// Never in a version whose tests pass: what could be wrong with the table of operations is wrong every time.
#[must_use]
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in operations() {
        let described = describe(&operation, &mut schemas);
        let methods = paths.entry(shown(operation.path)).or_default();
        methods.insert(operation.method.name().to_lowercase(), described);
    }
    let tags: Vec<Value> = TAGS
        .iter()
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Podflare",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "key": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A tenant's API key. A host that is reached through loopback may be set up without.",
                },
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The operator's token, `PODFLARE_OPERATOR_TOKEN` of the host. API keys are not accepted in its place.",
                },
                "metrics": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The key of the metrics, `PODFLARE_METRICS_KEY` of the host, if it has one. It opens nothing else.",
                },
            },
            // A type with two meanings is left out here, and a test fails.
            "schemas": schemas.components().unwrap_or_default(),
        },
    })
}

/// A path as OpenAPI writes it, which knows no rest of a path: one more segment stands for it.
fn shown(path: &str) -> String {
    path.replace("{*", "{")
}

fn describe(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut parameters = parameters::of_path(operation.path).unwrap_or_default();
    parameters.extend(operation.parameters.iter().map(parameters::Parameter::describe));
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for answer in &operation.answers {
        responses.insert(answer.status.to_string(), success(answer, schemas));
    }
    for (status, response) in failures(&operation.errors, schemas) {
        responses.entry(status).or_insert(response);
    }
    if let Some(description) = operation.others {
        responses.insert("default".to_owned(), json!({ "description": description }));
    }
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": responses,
    });
    let mut set = |key: &str, value: Value| described[key] = value;
    if !operation.description.is_empty() {
        set("description", operation.description.into());
    }
    if !parameters.is_empty() {
        set("parameters", parameters.into());
    }
    match operation.guard {
        Guard::Key => {}
        Guard::Operator => set("security", json!([{ "operator": [] }])),
        Guard::Metrics => set("security", json!([{ "operator": [] }, { "metrics": [] }])),
        Guard::Nobody => set("security", json!([])),
    }
    if let Some(body) = &operation.body
        && let Some(mut content) = body.content.describe(schemas)
    {
        if let (Some(example), Some(media)) = (&body.example, content.as_object_mut()) {
            media
                .values_mut()
                .for_each(|media| media["example"] = example.clone());
        }
        set(
            "requestBody",
            json!({ "required": body.required, "content": content }),
        );
    }
    described
}

fn success(answer: &Answer, schemas: &mut Schemas) -> Value {
    let mut response = json!({ "description": answer.description });
    if let Some(content) = answer.content.describe(schemas) {
        response["content"] = content;
    }
    for header in &answer.headers {
        response["headers"][header.name] =
            json!({ "description": header.description, "schema": { "type": "string" } });
    }
    response
}

/// One response for each status, with the codes that can come with it.
fn failures(codes: &[ErrorCode], schemas: &mut Schemas) -> Vec<(String, Value)> {
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(*code);
    }
    let error = Content::json::<ErrorBody<'_>>();
    let failures = by_status.into_iter().map(|(status, codes)| {
        let names: Vec<Value> = codes.iter().map(|code| json!(code)).collect();
        let listed: Vec<String> = names.iter().filter_map(|name| Some(format!("`{}`", name.as_str()?))).collect();
        let mut response = json!({ "description": listed.join(", ") });
        if let Some(mut content) = error.describe(schemas) {
            let body = &mut content["application/json"]["schema"];
            *body = json!({ "allOf": [body.clone(), { "properties": { "code": { "enum": names } } }] });
            response["content"] = content;
        }
        if matches!(status, 429 | 503) {
            response["headers"]["Retry-After"] = json!({
                "description": "Seconds after which it is worth trying again; absent where waiting does not help.",
                "schema": { "type": "integer", "minimum": 0 },
            });
        }
        (status.to_string(), response)
    });
    failures.collect()
}
